"""What LeRobot itself predicts: its own loading, its own pipelines, `torch.manual_seed`, and no server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import make_pre_post_processors
from lerobot.policies.factory import get_policy_class
from lerobot.policies.utils import populate_queues
from lerobot.utils.constants import ACTION, OBS_IMAGES

from vla_server_base.contract import Observation

TASK = "pick up the red cube"


@dataclass
class LeRobotItself:
    """A policy with its pipelines, as LeRobot's own functions load them."""

    folder: Path

    def __post_init__(self):
        config = PreTrainedConfig.from_pretrained(self.folder)
        self.pre, self.post = make_pre_post_processors(config, pretrained_path=str(self.folder))
        self.policy: Any = get_policy_class(config.type).from_pretrained(self.folder, config=config)

    def chunk(self, window: Sequence[Observation], seed: int, text: str = TASK) -> np.ndarray:
        """Return the chunk after a window of observations whose images have the policy's sizes."""
        return self.chunk_of_batch([self.batch(each, text) for each in window], seed)

    def chunk_of_batch(self, batches: Sequence[dict[str, Any]], seed: int, **options: Any) -> np.ndarray:
        """Return the chunk, un-normalized, after batches of one observation each."""
        return self.post(self.normalized(batches, seed, **options))[0].numpy()

    def normalized(self, batches: Sequence[dict[str, Any]], seed: int, **options: Any) -> torch.Tensor:
        """Return the chunk as the policy itself has it."""
        self.policy.reset()
        processed = [self.pre(dict(batch)) for batch in batches]
        for batch in processed:
            batch.pop(ACTION)
            if OBS_IMAGES in self.policy.__dict__.get("_queues", {}):
                images = [batch[key] for key in self.policy.config.image_features]
                batch[OBS_IMAGES] = torch.stack(images, dim=-4)
                self.policy._queues = populate_queues(self.policy._queues, batch)
        torch.manual_seed(seed)
        with torch.no_grad():
            return self.policy.predict_action_chunk(processed[-1], **options)

    @staticmethod
    def batch(seen: Observation, text: str = TASK) -> dict[str, Any]:
        """Return an observation as a batch of one."""
        images = {
            f"observation.images.{name}": torch.from_numpy(image.copy()).permute(2, 0, 1)[None].contiguous() / 255
            for name, image in seen.images.items()
        }
        return {**images, "observation.state": torch.from_numpy(seen.proprio)[None], "task": [text]}


def an_observation(cameras: dict[str, tuple[int, int]], state_dim: int, seed: int = 0) -> Observation:
    """Return noise images of these sizes, and a state."""
    random = np.random.default_rng(seed)
    images = {name: random.integers(0, 256, (*size, 3), np.uint8) for name, size in cameras.items()}
    return Observation(images=images, proprio=random.normal(size=state_dim).astype(np.float32))

"""What LeRobot itself answers: its pipelines, `torch.manual_seed`, and its own way to execute a chunk."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lerobot.utils.constants import ACTION, OBS_STATE

from lerobot_service.checkpoints.checkpoint import LoadedPolicy
from lerobot_service.checkpoints.features import cameras_of
from vla_server_base.contract import Observation


def lerobots_own_actions(
    loaded: LoadedPolicy, observation: Observation, text: str, seed: int
) -> Float[np.ndarray, "actions action_dim"]:
    """Return the actions that LeRobot's policy executes after an episode's first observation, as its users call it.

    The images have the policy's sizes. A policy with real-time chunking is asked for a chunk, the others action by
    action until they would predict again.
    """
    policy = loaded.policy
    policy.reset()
    torch.manual_seed(seed)
    with torch.no_grad():
        if policy.supports_rtc():
            chunk = policy.predict_action_chunk(_preprocessed(loaded, observation, text))
            return loaded.postprocessor(chunk)[0].float().cpu().numpy()
        actions = [
            loaded.postprocessor(policy.select_action(_preprocessed(loaded, observation, text)))
            for _ in range(_num_executed(loaded))
        ]
    return torch.cat(actions).float().cpu().numpy()


def _num_executed(loaded: LoadedPolicy) -> int:
    averages = getattr(loaded.config, "temporal_ensemble_coeff", None) is not None
    return 1 if averages else getattr(loaded.config, "n_action_steps", 1)


def _preprocessed(loaded: LoadedPolicy, observation: Observation, text: str) -> dict[str, Any]:
    images = {
        key: torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous() / 255
        for key, image in ((key, observation.images[name]) for key, name in cameras_of(loaded.config).items())
    }
    proprio = torch.zeros(0) if observation.proprio is None else torch.from_numpy(np.array(observation.proprio))
    batch = loaded.preprocessor({**images, OBS_STATE: proprio[None], "task": [text]})
    return {key: value for key, value in batch.items() if key != ACTION}

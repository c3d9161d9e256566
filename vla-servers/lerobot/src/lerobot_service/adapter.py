"""LeRobotAdapter: any policy that LeRobot trained, served."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from lerobot_service.config import LeRobotConfig
from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import (
    Image,
    NormalizedChunks,
    PolicyArrays,
    PolicyInput,
    PolicySpec,
    Task,
    Window,
)


class LeRobotAdapter(VLAModelAdapter):
    """Serves one checkpoint. A chunk has the units of the data it was trained on: LeRobot's postprocessor gives them.

    On a CPU each sample is predicted alone, bit for bit as LeRobot predicts it after `torch.manual_seed(seed)`.
    `batched` predicts several in one pass, as a GPU does.
    """

    def __init__(self, config: LeRobotConfig | None = None, *, batched: bool | None = None):
        self._config = config or LeRobotConfig()
        self._batched = batched

    @property
    def spec(self) -> PolicySpec:
        """What the loaded checkpoint takes and gives."""
        return self._spec

    def load_model(self, model_id: str, device: str, cache_dir: Path) -> None:
        """Load a checkpoint onto `device` ("auto", "cpu", "gpu"), and try it.

        Raises:
            ModelOutOfReach: the hub does not answer.
            ModelUnavailable: the checkpoint cannot be used; the hint says what to do.
        """
        del cache_dir
        # PyTorch's idle threads would otherwise spin, and slow down each other and everything else.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # LeRobot and PyTorch take seconds to import: not before the server answers.
        from lerobot_service.inference.policy import load

        ready = load(model_id, self._config, device, batched=self._batched)
        self.loaded, self._spec, self._observations, self._chunks = (
            ready.loaded,
            ready.spec,
            ready.observations,
            ready.chunks,
        )

    def fit_image(self, camera: str, image: Image) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """Resize an image that is larger than the policy's own, as `preprocess_observation` would."""
        return self._observations.fit_image(camera, image)

    def preprocess_observation(self, window: Window, dataset: str | None = None) -> PolicyArrays:
        """Resize images as LeRobot's server does, and stack them and the robot's state."""
        del dataset
        return self._observations.window(window)

    def preprocess_instruction(self, task: Task) -> PolicyArrays:
        """Return the instruction as text: the policy's preprocessor tokenizes it, which may need the state."""
        return {"task": np.array([task.instruction or ""], dtype=object)}

    def predict(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        """Run preprocessor, policy and postprocessor: chunks are in units already."""
        return self._chunks.of(batch)

    def without_parameters(self) -> "LeRobotAdapter":
        """Return a copy that has the spec and fits images."""
        light = copy.copy(self)
        del light.loaded, light._chunks
        return light

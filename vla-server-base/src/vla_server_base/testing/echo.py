"""EchoAdapter: a policy that answers with what it saw, so that a test knows what must come back."""

import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import (
    CameraSpec,
    NormalizedChunks,
    Observation,
    PolicyArrays,
    PolicyInput,
    PolicySpec,
    Task,
    Window,
)

WINDOW, HORIZON = 2, 4
_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
_UNITS = ("m", "m", "m", "rad", "rad", "rad", "0 closed, 1 open")
# Mean and deviation by dataset; the gripper passes through, as in Octo's statistics.
_STATISTICS = {"echo": (0.0, 1.0), "echo_doubled": (1.0, 2.0)}
_IS_NORMALIZED = np.array([True] * 6 + [False])


class EchoAdapter(VLAModelAdapter):
    """Answers with seven numbers that say what reached the policy; row h of the chunk is (h + 1) times these.

    0-2  mean red, green and blue of the first camera's newest image, 0..1
    3    mean of the second camera's newest image, 0..1, plus k times that of each camera k further
    4    `instruction_number(instruction)`, 0 without one; plus 1 + the mean of the first camera's goal image,
         and k + that of each camera k further
    5    number of timesteps in the window that are not padding, plus the sum of the newest proprio
    6    `noise(seed, step, sample)`

    Un-normalized with `echo` they stay as they are; with `echo_doubled` the first six become 1 + 2 x.
    """

    cameras: tuple[str, ...] = ("primary", "wrist")
    """A subclass may have others."""

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    @cached_property
    def _spec(self) -> PolicySpec:
        return PolicySpec(
            model="echo",
            cameras=tuple(CameraSpec(name=name, height=224, width=224) for name in self.cameras),
            horizon=HORIZON,
            action_names=_NAMES,
            action_units=_UNITS,
            window=WINDOW,
            action_formats=("standard", "ee_delta"),
            datasets=tuple(_STATISTICS),
            default_dataset="echo",
            proprio_dim=3,
            takes_goal_images=True,
            weights="none",
            device="none",
            details={"parameters": 0},
        )

    def load_model(self, model_id: str, device: str, cache_dir: Path) -> None:
        """There is nothing to load."""

    def preprocess_observation(self, window: Window, dataset: str | None = None) -> PolicyArrays:
        del dataset  # all take proprio as it is
        return {
            "colours": np.stack([self._colours(observation) for observation in window.observations])[None],
            "proprio": np.stack([_proprio(observation) for observation in window.observations])[None],
            "timestep_pad_mask": window.timestep_pad_mask[None],
        }

    def preprocess_instruction(self, task: Task) -> PolicyArrays:
        number = instruction_number(task.instruction) if task.instruction else 0.0
        for rank, camera in enumerate(self.cameras, 1):
            if camera in task.goal_images:
                number += rank + task.goal_images[camera].mean() / 255.0
        return {"number": np.array([number])}

    def predict(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        return [_chunks(policy_input) for policy_input in batch]

    def un_normalize(
        self, chunk: Float[np.ndarray, "horizon action_dim"], dataset: str | None
    ) -> Float[np.ndarray, "horizon action_dim"]:
        assert dataset is not None, "the spec lists datasets"
        mean, deviation = _STATISTICS[dataset]
        return np.where(_IS_NORMALIZED, mean + deviation * chunk, chunk)

    def _colours(self, observation: Observation) -> Float[np.ndarray, "cameras 3"]:
        seen = [observation.images.get(camera) for camera in self.cameras]
        return np.stack([np.zeros(3) if image is None else image.mean(axis=(0, 1)) / 255.0 for image in seen])


def instruction_number(instruction: str) -> float:
    """Return a number in [0, 1) that stands for an instruction."""
    return zlib.crc32(instruction.encode()) / 2**32


def noise(seed: int, step: int = 0, sample: int = 0) -> float:
    """Return the number in [0, 1) that one draw of the policy's noise is."""
    return float(np.random.default_rng((seed, step, sample)).random())


def _proprio(observation: Observation) -> Float[np.ndarray, " 3"]:
    return np.zeros(3) if observation.proprio is None else observation.proprio.astype(np.float64)


def _chunks(policy_input: PolicyInput) -> NormalizedChunks:
    observation, task = policy_input.observation, policy_input.task
    first, *others = observation["colours"][0, -1]
    brightness = sum(rank * colours.mean() for rank, colours in enumerate(others, 1))
    progress = observation["timestep_pad_mask"].sum() + observation["proprio"][0, -1].sum()
    seen = [*first, brightness, task["number"][0], progress]
    rows = [[*seen, noise(policy_input.seed, policy_input.step, sample)] for sample in range(policy_input.num_samples)]
    return np.arange(1.0, HORIZON + 1)[:, None] * np.array(rows)[:, None]

"""EchoAdapter: a policy that answers with what it saw, so that a test knows what must come back."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

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
    """Answers with numbers that say what reached the policy; row h of the chunk is (h + 1) times these.

    0-2  mean red, green and blue of the first camera's newest image, 0..1
    3    mean of the second camera's newest image, 0..1, plus k times that of each camera k further
    4    `instruction_number(instruction)`, 0 without one; plus 1 + the mean of the first camera's goal image,
         and k + that of each camera k further
    5    number of timesteps in the window that are not padding, plus the sum of the newest proprio
    6    `noise(seed, step, sample)`
    7-   the newest proprio, one number after the other, then zeros; in actions of more than seven numbers

    Un-normalized with `echo` they stay as they are; with `echo_doubled` the first six become 1 + 2 x. A subclass may
    have other `cameras`, and with `changes` any other spec, of at least seven numbers an action.
    """

    cameras: tuple[str, ...] = ("primary", "wrist")
    changes: Mapping[str, Any] = MappingProxyType({})
    """What the spec has instead of the echo's: fields of a PolicySpec."""

    @property
    def spec(self) -> PolicySpec:
        return self._spec

    @cached_property
    def _spec(self) -> PolicySpec:
        spec = PolicySpec(
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
        return replace(spec, **self.changes)

    def load_model(self, model_id: str, device: str, cache_dir: Path) -> None:
        """There is nothing to load."""

    def preprocess_observation(self, window: Window, dataset: str | None = None) -> PolicyArrays:
        del dataset  # all take proprio as it is
        return {
            "colours": np.stack([self._colours(observation) for observation in window.observations])[None],
            "proprio": np.stack([self._proprio(observation) for observation in window.observations])[None],
            "timestep_pad_mask": window.timestep_pad_mask[None],
        }

    def preprocess_instruction(self, task: Task) -> PolicyArrays:
        number = instruction_number(task.instruction) if task.instruction else 0.0
        for rank, camera in enumerate(self.cameras, 1):
            if camera in task.goal_images:
                number += rank + task.goal_images[camera].mean() / 255.0
        return {"number": np.array([number])}

    def predict(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        return [_chunks(policy_input, self.spec) for policy_input in batch]

    def un_normalize(
        self, chunk: Float[np.ndarray, "horizon action_dim"], dataset: str | None
    ) -> Float[np.ndarray, "horizon action_dim"]:
        if dataset is None:
            return chunk
        mean, deviation = _STATISTICS[dataset]
        return np.where(_IS_NORMALIZED, mean + deviation * chunk, chunk)

    def _proprio(self, observation: Observation) -> Float[np.ndarray, " proprio_dim"]:
        if observation.proprio is None:
            return np.zeros(self.spec.proprio_dim or 0)
        return observation.proprio.astype(np.float64)

    def _colours(self, observation: Observation) -> Float[np.ndarray, "cameras 3"]:
        seen = [observation.images.get(camera) for camera in self.cameras]
        return np.stack([np.zeros(3) if image is None else image.mean(axis=(0, 1)) / 255.0 for image in seen])


class JointEcho(EchoAdapter):
    """The echo of a policy of two arms' joints, which requires both cameras and the state, and reads no instruction."""

    cameras = ("top", "left_wrist")
    changes = MappingProxyType(
        {
            "cameras": tuple(CameraSpec(name=name, height=48, width=64, required=True) for name in cameras),
            "horizon": 16,
            "action_names": tuple(f"{side}_{number}" for side in ("left", "right") for number in range(7)),
            "action_units": ("rad",) * 14,
            "action_formats": ("raw",),
            "datasets": (),
            "default_dataset": None,
            "proprio_dim": 8,
            "proprio_names": ("waist", "shoulder", "elbow", "forearm", "wrist_angle", "wrist_roll", "gripper", "lift"),
            "proprio_units": ("rad",) * 8,
            "requires_proprio": True,
            "takes_instruction": False,
            "takes_goal_images": False,
            "control_hz": 50.0,
        }
    )


def instruction_number(instruction: str) -> float:
    """Return a number in [0, 1) that stands for an instruction."""
    return zlib.crc32(instruction.encode()) / 2**32


def noise(seed: int, step: int = 0, sample: int = 0) -> float:
    """Return the number in [0, 1) that one draw of the policy's noise is."""
    return float(np.random.default_rng((seed, step, sample)).random())


def _chunks(policy_input: PolicyInput, spec: PolicySpec) -> NormalizedChunks:
    observation, task = policy_input.observation, policy_input.task
    first, *others = observation["colours"][0, -1]
    brightness = sum(rank * colours.mean() for rank, colours in enumerate(others, 1))
    progress = observation["timestep_pad_mask"].sum() + observation["proprio"][0, -1].sum()
    seen = [*first, brightness, task["number"][0], progress]
    num_more = spec.action_dim - len(_NAMES)
    more = [*observation["proprio"][0, -1], *np.zeros(num_more)][:num_more]
    samples = range(policy_input.num_samples)
    rows = [[*seen, noise(policy_input.seed, policy_input.step, sample), *more] for sample in samples]
    return np.arange(1.0, spec.horizon + 1)[:, None] * np.array(rows)[:, None]

"""Rows: what a batch of requests asks of a policy, a sample a row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lerobot_service.inference.noise import generator_of
from vla_server_base.contract import PolicyArrays, PolicyInput, PreviousChunk


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sample of one request: its window, its task, its noise and the chunk that it continues."""

    observation: PolicyArrays
    text: str
    seed: int
    step: int
    sample: int
    previous: PreviousChunk | None = None

    @property
    def generator(self) -> torch.Generator:
        """A new generator of this row's noise."""
        return generator_of(self.seed, self.step, self.sample)

    @property
    def shares_a_batch_with(self) -> tuple:
        """Rows for which this is equal can be predicted together: same features, same steps to continue."""
        previous = self.previous
        rest = (
            None if previous is None else (previous.inference_delay, previous.execution_horizon, len(previous.actions))
        )
        return tuple(self.observation), rest


def rows_of(policy_input: PolicyInput, num_samples: int) -> list[Row]:
    """Return the first samples of a request as rows."""
    return [
        Row(
            observation=policy_input.observation,
            text=str(policy_input.task["task"][0]),
            seed=policy_input.seed,
            step=policy_input.step,
            sample=sample,
            previous=policy_input.previous,
        )
        for sample in range(num_samples)
    ]


def features_of(rows: Sequence[Row], timestep: int | slice) -> dict[str, Tensor]:
    """Return what rows saw at one timestep, or at several: images in [0, 1] (row, [time,] channel, height, width).

    They are contiguous, as LeRobot's server has them: PyTorch's convolutions round otherwise where channels come last.
    """
    arrays = {name: np.stack([row.observation[name][0, timestep] for row in rows]) for name in rows[0].observation}
    return {name: _tensor(array) for name, array in arrays.items()}


def _tensor(array: np.ndarray) -> Tensor:
    values = torch.from_numpy(array)
    if array.dtype != np.uint8:
        return values
    return values.movedim(-1, -3).contiguous().to(torch.float32) / 255

"""Samples of one trajectory, spelled out as the reference's transforms make them: what batches are held to.

Follows octo/data/traj_transforms.py (chunk_act_obs) and task_augmentation.py (delete_task_conditioning) of
octo-models/octo.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One demonstration: what was seen and what was done at each timestep. Actions are normalized."""

    observation: Mapping[str, Shaped[np.ndarray, "length ..."]]
    action: Float[np.ndarray, "length action_dim"]
    instruction: str = ""
    """Empty where nobody said what was done."""


class Goals(NamedTuple):
    """What the sample of each timestep is asked to do: to reach `timestep`, or what the instruction says."""

    timestep: Int[np.ndarray, " length"]
    """The goal's, or the last one where the goal is an instruction."""
    by_image: Bool[np.ndarray, " length"]


class Chunks(NamedTuple):
    """Which timesteps the sample of each timestep is made of."""

    observed: Int[np.ndarray, "length window"]
    timestep_pad_mask: Bool[np.ndarray, "length window"]
    acted: Int[np.ndarray, "length window horizon"]
    task_completed: Bool[np.ndarray, "length window horizon"]


def chunk(goal_timestep: Int[np.ndarray, " length"], window: int, horizon: int) -> Chunks:
    """Say of which timesteps each sample is made.

    Before the first observation stands padding that repeats it, with its chunk of actions. After the last action that
    one repeats. The task counts as completed two timesteps after the goal's: so the reference has it.
    """
    length = len(goal_timestep)
    seen = np.arange(length)[:, None] + np.arange(1 - window, 1)
    observed = np.maximum(seen, 0)
    ahead = np.arange(horizon)
    return Chunks(
        observed=observed,
        timestep_pad_mask=seen >= 0,
        acted=np.minimum(observed[..., None] + ahead, length - 1),
        task_completed=seen[..., None] + ahead - 2 >= goal_timestep[:, None, None],
    )


def sample(trajectory: Trajectory, timestep: int, goals: Goals, chunks: Chunks) -> dict[str, Any]:
    """Make the sample of one timestep, without a batch axis; its instruction is text, and empty where dropped."""
    observed, by_image = chunks.observed[timestep], bool(goals.by_image[timestep])
    observation = {name: values[observed] for name, values in trajectory.observation.items()}
    images = {name: values for name, values in trajectory.observation.items() if name.startswith("image_")}
    goal = goals.timestep[timestep]
    action = trajectory.action[chunks.acted[timestep]]
    counts = np.broadcast_to(~chunks.task_completed[timestep][..., None], action.shape)
    return {
        "observation": {**observation, "timestep_pad_mask": chunks.timestep_pad_mask[timestep]},
        "task": {
            **{name: values[goal] if by_image else np.zeros_like(values[0]) for name, values in images.items()},
            "language_instruction": "" if by_image else trajectory.instruction,
            "pad_mask_dict": {**dict.fromkeys(images, by_image), "language_instruction": not by_image},
        },
        "action": action,
        "action_pad_mask": counts,
    }

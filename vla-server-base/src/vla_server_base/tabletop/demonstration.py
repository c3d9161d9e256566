"""One demonstration: what a policy would have seen, what the expert would do, and what was executed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from vla_server_base.contract import Observation
from vla_server_base.datasets import RecordedEpisode
from vla_server_base.episodes.policies import ARM_ACTION
from vla_server_base.tabletop.tables import OBJECTS, TableState
from vla_server_base.tabletop.tasks import TabletopTask
from vla_server_base.tabletop.trials import Trial


@dataclass(frozen=True, kw_only=True)
class DemonstratedStep:
    """The observation, the expert's action (`label`), and the executed action, which a disturbance or policy changes.

    The observation's `proprio` is what the arm measures: joint positions [rad] and the gripper opening, 0 to 1.
    `expert_drove` is False where a policy acted.
    """

    observation: Observation
    environment_state: Float32[np.ndarray, " 16"]
    label: Float[np.ndarray, " 7"]
    executed: Float[np.ndarray, " 7"]
    expert_drove: bool


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One demonstrated trial.

    Each of `random_views` has one step: the arm as in one of `steps`, the objects and the task resampled.
    """

    trial: Trial
    steps: tuple[DemonstratedStep, ...]
    success: bool
    random_views: tuple["Demonstration", ...] = ()

    @property
    def is_worth_learning(self) -> bool:
        """Whether it succeeded, or a policy acted to the end, whose failures are what the labels are for."""
        return self.success or not self.steps[-1].expert_drove

    def recorded(self) -> RecordedEpisode:
        """Return it as datasets store it; the actions are the expert's labels."""
        first, trial = self.steps[0].observation, self.trial
        return RecordedEpisode(
            images={name: np.stack([step.observation.images[name] for step in self.steps]) for name in first.images},
            proprio=np.array([step.observation.proprio for step in self.steps], np.float32),
            environment_state=np.array([step.environment_state for step in self.steps]),
            actions=np.array([step.label for step in self.steps], np.float32),
            instruction=trial.instruction,
            expert_drove=np.array([step.expert_drove for step in self.steps]),
            metadata={"task": trial.task.name, "seed": trial.seed, "robot": trial.table.robot, "success": self.success},
            proprio_names=(*trial.table.joints, "gripper"),
            action_names=ARM_ACTION,
        )


def environment_state(task: TabletopTask, state: TableState) -> Float32[np.ndarray, " 16"]:
    """Return what a policy has to read from images and instruction, as numbers to learn.

    These are the vectors from the gripper, along the base's axes [m], to the task's object, to its target (the object
    if there is none) and to each of `OBJECTS`; then the gripper opening, 0 to 1. Only the first two depend on the
    instruction: from actions alone, which are similar for all objects, a policy learns that much more slowly.
    """
    named = (task.object, task.target or task.object)
    vectors = [state.objects[name].position - state.position for name in (*named, *OBJECTS)]
    return np.concatenate([*vectors, [state.gripper_opening]]).astype(np.float32)

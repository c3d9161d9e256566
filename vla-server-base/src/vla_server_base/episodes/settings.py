"""How an episode runs, and when it has succeeded."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vla_server_base.execution import Execution
from vla_server_base.scenes.messages import BodyPose, Bounds, ControlSettings, Measure, SceneState, View
from vla_server_base.scenes.robots import RobotDescription

GuardMode = Literal["off", "warn", "clamp", "reject"]
Pace = Literal["real_time", "fast"]
"""Whether steps come at the simulation's own clock, or as soon as they are computed."""
MAX_CHANGES = 64
"""Of one episode."""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What a predicate compares with its range, the measure or its change since the start, and whether it holds."""

    value: float
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Predicate:
    """A part of success: a measure within `low` to `high`, or its change `since_start`."""

    measure: Measure
    low: float = -np.inf
    high: float = np.inf
    since_start: bool = False

    def holds(self, value: float, at_start: float) -> bool:
        """Return whether the measure satisfies it."""
        return self.judge(value, at_start).holds

    def judge(self, value: float, at_start: float) -> Criterion:
        """Return what is compared with the range, and whether it lies in it."""
        compared = value - at_start * self.since_start
        return Criterion(value=compared, holds=self.low <= compared <= self.high)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What somebody changes in an episode before one of its steps; what is None stays.

    A new instruction replaces the whole task: the rest of the chunk is dropped, the window is kept, and the policy is
    asked at once. `bodies` are put elsewhere, at rest, and the policy's last images are drawn again.
    """

    step: int
    instruction: str | None = None
    success: tuple[Predicate, ...] | None = None
    bodies: tuple[BodyPose, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EpisodeSettings:
    """How an episode runs.

    Chunks are executed as in a session (`SessionSettings`): `execution`, with `execution_horizon` or `ensemble_weight`;
    what is None follows from the others or is the policy's own. While the policy computes, `latency_s` of simulated
    time pass: the arm holds its last targets, or with rtc, aligned and blended goes on with its last chunk
    (`ChunkPlan`); the world waits for neither. The episode ends when all of `success` hold at once, when `guard`
    rejects a chunk, or after `max_steps` actions. With a guard or `preview`, each chunk is rolled out before its first
    action is executed. The policy's cameras are rendered even if `view` names others; `with_images` renders
    also the steps that will not be in the policy's window when it is asked again. `max_worker_s` bounds the
    workers' time, all steps together. `poses` adds the poses of the moving bodies to each step and preview.
    `changes` take effect before their steps, in their order.
    """

    max_steps: int = 75
    max_worker_s: float = np.inf
    execution: Execution | None = None
    execution_horizon: int | None = None
    ensemble_weight: float | None = None
    seed: int = 0
    latency_s: float = 0.0
    success: tuple[Predicate, ...] = ()
    guard: GuardMode = "off"
    preview: bool = False
    poses: bool = False
    bounds: Bounds = field(default_factory=Bounds)
    robot: str | RobotDescription | None = None
    control: ControlSettings = field(default_factory=ControlSettings)
    state: SceneState = field(default_factory=SceneState)
    view: View = field(default_factory=View)
    with_images: bool = False
    changes: tuple[Change, ...] = ()

"""What happens in an episode: its start, its steps, what is changed between them, and its end."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from vla_server_base.episodes.settings import Change, Criterion, Pace
from vla_server_base.scenes.messages import (
    BodyPoses,
    Cost,
    Pose,
    RenderedView,
    RolloutStep,
    SceneNames,
    SimulationState,
)
from vla_server_base.scenes.robots import RobotDescription


@dataclass(frozen=True, kw_only=True)
class EpisodeStart:
    """The scene before the first action.

    `proprio`, here and in the events that follow, is what the policy gets of what the arm measures,
    and `proprio_names` what its numbers are.
    """

    state: SimulationState
    pose: Pose
    body_poses: BodyPoses | None
    criteria: tuple[Criterion, ...]
    names: SceneNames
    robot: RobotDescription
    base: int
    view: RenderedView
    cost: Cost
    proprio: Float[np.ndarray, " proprio"] | None = None
    proprio_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepTiming:
    """Milliseconds of one step; `predict_ms` and `preview_ms` are 0 if a chunk was still being executed."""

    predict_ms: float
    preview_ms: float
    physics_ms: float
    render_ms: float
    total_ms: float


@dataclass(frozen=True, kw_only=True)
class EpisodeStep:
    """One action, as the policy returned it, and its result.

    `chunk` is the policy's, and `preview` its predicted motion, where the policy was asked at this step. `criteria` are
    in the order of the settings' `success`.
    """

    index: int
    action: Float[np.ndarray, " 7"]
    result: RolloutStep
    success: bool
    criteria: tuple[Criterion, ...]
    chunk: Float[np.ndarray, "horizon 7"] | None
    preview: tuple[RolloutStep, ...] | None
    view: RenderedView | None
    timing: StepTiming
    proprio: Float[np.ndarray, " proprio"] | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodeChange:
    """Something was changed before step `index`; `change` is None where only the status or the pace was.

    `state`, `body_poses` and `view` are the scene after bodies were put elsewhere.
    """

    index: int
    change: Change | None = None
    status: Literal["running", "paused"] = "running"
    pace: Pace = "fast"
    state: SimulationState | None = None
    body_poses: BodyPoses | None = None
    view: RenderedView | None = None
    proprio: Float[np.ndarray, " proprio"] | None = None


EndReason = Literal["success", "max_steps", "rejected", "stopped"]


@dataclass(frozen=True, kw_only=True)
class EpisodeEnd:
    """Why the episode ended; `rejected` holds the preview of the chunk that the guard rejected."""

    reason: EndReason
    num_steps: int
    success: bool | None
    duration_ms: float
    rejected: tuple[RolloutStep, ...] | None = None


EpisodeEvent = EpisodeStart | EpisodeStep | EpisodeChange | EpisodeEnd

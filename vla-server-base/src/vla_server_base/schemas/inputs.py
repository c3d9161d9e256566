"""Requests in core types: what `to_core` makes of a wire type, and all that the routes see of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vla_server_base.contract import Observation, Task
from vla_server_base.engine.engine import Engine
from vla_server_base.episodes.recording import RecordingKind
from vla_server_base.episodes.settings import EpisodeSettings, Pace
from vla_server_base.scenes.messages import Bounds, ControlSettings, SceneState, View
from vla_server_base.scenes.robots import RobotDescription

FrameFormat = Literal["none", "jpeg", "png"]
"""How the events of a stream carry what the policy's cameras see: `png` exactly, `jpeg` in a tenth of the bytes."""


@dataclass(frozen=True, kw_only=True)
class PredictInputs:
    """A POST /predict in core types: checked, decoded, and in the policy's own names.

    `observations` are oldest first; with a scene there is one, whose images are still to be rendered. `action_format`
    is one of the policy's, None the first. `session` are the values of a StepRequest, None without a session. `scene`
    is None for a request with images. `needs_preview` says whether the reply needs what the chunk does in the scene.
    `engine` is of the model for which the request was read, and `names_model` says whether it named that.
    """

    observations: tuple[Observation, ...]
    task: Task
    dataset: str | None
    notes: tuple[str, ...]
    seed: int | None
    step: int
    num_samples: int
    action_format: str | None
    wants_joint_positions: bool
    wants_images: bool
    deadline_ms: float | None
    session: Mapping[str, Any] | None
    scene: "SceneInputs | None"
    needs_preview: bool
    engine: Engine | None = None
    names_model: bool = False


@dataclass(frozen=True, kw_only=True)
class SceneInputs:
    """The scene of a request in core types: its state, the cameras to look through, and the arm that moves in it."""

    view: View
    state: SceneState
    robot: str | RobotDescription | None
    control: ControlSettings
    bounds: Bounds
    guard: Literal["off", "warn", "clamp", "reject"]
    wants_preview: bool
    wants_poses: bool


@dataclass(frozen=True, kw_only=True)
class GeometryInputs:
    """A POST /scenes/geometry in core types: the state, whether it is the scene's own, and the groups of geoms."""

    state: SceneState
    is_default_state: bool
    geom_groups: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class ExecuteInputs:
    """A POST /execute or /episodes in core types: checked, decoded, and in the policy's own names.

    `engine` is of the model for which it was read.
    """

    settings: EpisodeSettings
    task: Task
    dataset: str | None
    notes: tuple[str, ...]
    record: tuple[RecordingKind, ...]
    frames: FrameFormat
    pace: Pace = "fast"
    is_paused: bool = False
    engine: Engine | None = None

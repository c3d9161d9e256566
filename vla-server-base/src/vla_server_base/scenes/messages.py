"""What the server and its scene workers say to one another. Plain data; both sides import this file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from vla_server_base.errors import VLAError
from vla_server_base.scenes.robots import Robot

RendererName = Literal["egl", "osmesa", "raycast"]
NUM_GEOM_GROUPS = 6
"""MuJoCo draws no geom of a higher group."""

MeasureKind = Literal["height", "along", "distance", "horizontal_distance", "above", "contact", "joint"]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A scene as a client sends it: MJCF text and the files it names, by plain name."""

    xml: str
    assets: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """How large the scene is, its assets included."""
        return len(self.xml) + sum(len(content) for content in self.assets.values())

    @cached_property
    def key(self) -> str:
        """Name the content: equal for scenes that compile to the same."""
        digest = hashlib.sha256()
        parts = [self.xml.encode("utf-8", "replace")]
        for name in sorted(self.assets):
            parts += [name.encode("utf-8", "replace"), self.assets[name]]
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class SceneState:
    """Where a scene's simulation stands; what is None stays as the keyframe has it.

    Joint positions in MuJoCo's qpos order [m, rad, quaternions w x y z]; `mocap_pos` [m] and
    `mocap_quat` one row per mocap body; `keyframe` by name or index, applied first; None is
    the one named `home`, or the model's own reference pose where there is no such keyframe.
    """

    qpos: Float[np.ndarray, " nq"] | None = None
    qvel: Float[np.ndarray, " nv"] | None = None
    ctrl: Float[np.ndarray, " nu"] | None = None
    mocap_pos: Float[np.ndarray, "nmocap 3"] | None = None
    mocap_quat: Float[np.ndarray, "nmocap 4"] | None = None
    keyframe: str | int | None = None


@dataclass(frozen=True, kw_only=True)
class RenderQuality:
    """What a picture may cost. All off by default: shadows alone are three quarters of a frame's time."""

    shadows: bool = False
    reflections: bool = False
    multisampling: int = 0


@dataclass(frozen=True, kw_only=True)
class View:
    """What to look through and how large the pictures are.

    `cameras` are the scene's, by the policy's that they stand for, its first one in front. None takes the one of the
    same name where the scene has it, and for the first one else `primary`, or another; "" takes none.
    `geom_groups` None draws those of the worker's settings, or else those that the scene's author means to be seen.
    """

    cameras: Mapping[str, str | None] = field(default_factory=lambda: {"primary": None, "wrist": None})
    height: int = 224
    width: int = 224
    geom_groups: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """Draw a scene in one state."""

    state: SceneState = field(default_factory=SceneState)
    view: View = field(default_factory=View)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a scene cost: times of this request [ms], memory of the scene as long as it is held [bytes].

    `compile_ms` is 0 where the worker still held the compiled scene; `num_bytes` is the compiled model
    and one simulation of it, without what the renderer keeps of it.
    """

    compile_ms: float = 0.0
    physics_ms: float = 0.0
    render_ms: float = 0.0
    num_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """RGB pictures by the policy's camera names, the first of them in front.

    `cameras` says which of the scene's cameras each came from, `geom_groups` which groups of geoms they show.
    """

    images: Mapping[str, UInt8[np.ndarray, "height width 3"]]
    cameras: Mapping[str, str]
    geom_groups: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RenderReply:
    """A request's pictures, and what they cost."""

    pictures: Pictures
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """How an action of the policy (dx, dy, dz [m], droll, dpitch, dyaw [rad], gripper) moves an arm.

    A delta is along the axes of the robot's `base`, or of its `tool`, and is cut to `max_translation_m` and
    `max_rotation_rad` a step. The gripper's number, 1 open and 0 closed, opens above `gripper_threshold`
    (`absolute`), or starts a whole opening or closing when it changes by more than the threshold (`sticky`).
    """

    rate_hz: float = 5.0
    frame: Literal["base", "tool"] = "base"
    max_translation_m: float = 0.05
    max_rotation_rad: float = 0.25
    gripper: Literal["absolute", "sticky"] = "absolute"
    gripper_threshold: float = 0.5


@dataclass(frozen=True, kw_only=True)
class ControlState:
    """What the controller remembers between two steps: where it told the arm and the gripper to go.

    `joint_targets` [rad or m] in the order of the robot's joints; `openness` is 0 closed, 1 open. The rest is
    the sticky gripper's: the number it saw last, and for how many more steps it listens to none.
    """

    joint_targets: Float[np.ndarray, " joints"]
    openness: float
    gripper_value: float | None = None
    gripper_hold: int = 0


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A simulation in full, to be gone on with in any worker: `physics` is MuJoCo's mjSTATE_INTEGRATION."""

    physics: Float[np.ndarray, " numbers"]
    control: ControlState | None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Something to be measured after each step, over named bodies or a joint of the scene.

    Of bodies' origins, in the world's frame [m]: `height` of one; `along`, where one stands along `direction`, a unit
    vector; `distance` between two; `horizontal_distance` between two; `above`, how much higher the first is than the
    second. `contact`: how hard two bodies press on one another [N], 0 where they do not touch; `joint`: a joint's
    position [rad or m].
    """

    kind: MeasureKind
    names: tuple[str, ...]
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a motion must stay within.

    `workspace` is the lowest and the highest corner of a box for the end effector, in the robot's base
    frame [m]; `max_joint_speed` holds for every joint [rad/s or m/s], None takes the robot's own limits where
    they are known; `max_contact_force_n` is for any contact of the robot's bodies with others.
    """

    workspace: Float[np.ndarray, "2 3"] | None = None
    max_joint_speed: float | None = None
    max_contact_force_n: float = 100.0


@dataclass(frozen=True, kw_only=True)
class RolloutRequest:
    """Go on with a simulation: hold still for `hold_s`, then execute `actions`, each for one control period.

    `robot` is a known robot's name, a description, or None to find the scene's arm; without `control` none is
    looked for and there are no actions. With `clamp`, a motion that would leave `bounds` is cut to 3/4, 1/2, 1/4
    or nothing of it.
    """

    start: SceneState | Snapshot
    actions: Float[np.ndarray, "steps 7"] = field(default_factory=lambda: np.zeros((0, 7)))
    hold_s: float = 0.0
    robot: str | Robot | None = None
    control: ControlSettings | None = field(default_factory=ControlSettings)
    bounds: Bounds = field(default_factory=Bounds)
    clamp: bool = False
    measures: tuple[Measure, ...] = ()
    view: View | None = None


@dataclass(frozen=True, kw_only=True)
class Contact:
    """Two bodies that touch, one of them the robot's, and how hard they press [N]."""

    bodies: tuple[str, str]
    force_n: float


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A bound that a step went beyond; `what` is the joint, the axis or the two bodies.

    `joint`: the wanted pose asks for a joint position beyond its limit, which is where the joint stays.
    """

    kind: Literal["joint", "velocity", "workspace", "contact"]
    what: str
    value: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class SimulationState:
    """What a client gets to know of a simulation's state: positions, velocities, controls, time."""

    qpos: Float[np.ndarray, " nq"]
    qvel: Float[np.ndarray, " nv"]
    ctrl: Float[np.ndarray, " nu"]
    time_s: float


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the end effector is, in the robot's base frame: [m] and w x y z."""

    position: Float[np.ndarray, " 3"]
    quaternion: Float[np.ndarray, " 4"]


@dataclass(frozen=True, kw_only=True)
class RolloutStep:
    """What came of one action, at its end.

    `scale` is the part of the motion that was executed: 1 unless `clamp` cut it.
    """

    state: SimulationState
    joint_targets: Float[np.ndarray, " joints"]
    pose: Pose
    openness: float
    contacts: tuple[Contact, ...]
    violations: tuple[Violation, ...]
    measures: tuple[float, ...]
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SceneNames:
    """A scene's joints and bodies, in MuJoCo's order."""

    joints: tuple[str, ...]
    bodies: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RolloutReply:
    """Where the simulation stood before and after, what each action did, and pictures of the end.

    `state`, `pose` and `measures` are of the start, after `hold_s`. `robot` is the arm, by its names in
    this scene. `names` are given at a start from a SceneState.
    """

    steps: tuple[RolloutStep, ...]
    state: SimulationState
    pose: Pose | None
    measures: tuple[float, ...]
    end: Snapshot
    robot: Robot | None
    names: SceneNames | None
    pictures: Pictures | None
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What one worker process is told when it starts."""

    renderer: RendererName
    quality: RenderQuality
    timeout_s: float
    memory_mb: int
    max_scenes: int
    max_jobs: int
    geom_groups: tuple[int, ...] | None = None
    confinement_required: bool = False


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """What the kernel keeps from all threads of a scene worker, and why not everything; see docs/security.md."""

    files: bool
    """Files and devices that it did not open before it saw a scene, but for a graphics card's."""
    network: bool
    """Sockets of every kind."""
    programs: bool
    """Running programs, and tracing or signalling others."""
    reason: str | None = None
    """Why one of these is false."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request as a worker gets it; `scene` is None where the worker still holds `key` compiled.

    `alone`: the worker gives up all other scenes first, for this one has once taken too much memory.
    """

    key: str
    scene: Scene | None
    request: RenderRequest | RolloutRequest
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a worker says to a job, which scenes it now holds compiled, and whether it must be replaced."""

    outcome: RenderReply | RolloutReply | VLAError
    held: frozenset[str]
    spent: bool
    confinement: Confinement | None = None
    """Said once, by a worker that is ready."""

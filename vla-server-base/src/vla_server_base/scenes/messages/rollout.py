"""A simulation over several requests: the request, each step, and the reply."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from vla_server_base.scenes.messages.control import Bounds, ControlSettings, ControlState, Measure
from vla_server_base.scenes.messages.scene import BodyPose, Cost, RenderedView, SceneState, View
from vla_server_base.scenes.robots import RobotDescription

POSE_FRAMES_PER_SECOND = 30
"""Frames of body poses in a simulated second: enough for smooth motion."""


def num_pose_frames(seconds: float) -> int:
    """Return how many frames of body poses an action or a hold of this length has, where physics steps suffice."""
    return max(1, round(POSE_FRAMES_PER_SECOND * seconds)) if seconds > 0 else 0


@dataclass(frozen=True, kw_only=True)
class SimulationState:
    """The part of a simulation's state that a client sees: positions, velocities, controls, time."""

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
class Snapshot:
    """A complete simulation, which any worker can continue: `physics` is MuJoCo's mjSTATE_INTEGRATION."""

    physics: Float[np.ndarray, " numbers"]
    control: ControlState | None


@dataclass(frozen=True, kw_only=True)
class RolloutRequest:
    """Continue a simulation: hold still for `hold_s`, then execute `actions`, each for one control period.

    `body_poses` are put before the hold. `poses` asks for the poses of all moving bodies, 30 frames a simulated second.

    `robot` is a known robot's name, a description, or None to find the scene's arm; without `control` no arm is
    searched for and there are no actions. With `clamp`, a motion that would leave `bounds` is cut to 3/4, 1/2, 1/4
    or nothing of it.
    """

    start: SceneState | Snapshot
    actions: Float[np.ndarray, "steps 7"] = field(default_factory=lambda: np.zeros((0, 7)))
    hold_s: float = 0.0
    robot: str | RobotDescription | None = None
    control: ControlSettings | None = field(default_factory=ControlSettings)
    bounds: Bounds = field(default_factory=Bounds)
    clamp: bool = False
    measures: tuple[Measure, ...] = ()
    body_poses: tuple[BodyPose, ...] = ()
    poses: bool = False
    view: View | None = None


@dataclass(frozen=True, kw_only=True)
class Contact:
    """Two bodies that touch, one of them the robot's, and how hard they press [N]."""

    bodies: tuple[str, str]
    force_n: float


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A bound that a step exceeded; `what` is the joint, the axis or the two bodies.

    `joint`: the wanted pose asks for a joint position beyond its limit, which is where the joint stays.
    """

    kind: Literal["joint", "velocity", "workspace", "contact"]
    what: str
    value: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class BodyPoses:
    """The poses of a scene's moving bodies at several times: x y z [m], w x y z in the world's frame.

    The bodies are those of `SceneNames.moving_bodies`. The axis `_frames` differs between the steps of one reply, whose
    arrays are checked together.
    """

    times_s: Float[np.ndarray, " _frames"]
    poses: Float[np.ndarray, "_frames bodies 7"]


@dataclass(frozen=True, kw_only=True)
class RolloutStep:
    """The result of one action, at its end.

    `scale` is the part of the motion that was executed: 1 unless `clamp` cut it. The last frame of `body_poses` is the
    end; the first step's begin with those of the hold.
    """

    state: SimulationState
    joint_targets: Float[np.ndarray, " joints"]
    pose: Pose
    gripper_opening: float
    contacts: tuple[Contact, ...]
    violations: tuple[Violation, ...]
    measures: tuple[float, ...]
    scale: float = 1.0
    body_poses: BodyPoses | None = None


@dataclass(frozen=True, kw_only=True)
class SceneNames:
    """A scene's joints and bodies, in MuJoCo's order.

    `moving_bodies` are the indices of the bodies that are not welded to the world.
    """

    joints: tuple[str, ...]
    bodies: tuple[str, ...]
    moving_bodies: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RolloutReply:
    """Where the simulation stood before and after, what each action did, and images of the end.

    `state`, `pose`, `measures` and `body_poses`, one frame, are of the start, after `hold_s`. `robot` is the arm, by
    its names in this scene, and `base` the id of the body whose frame is its base frame. `names` are included if the
    rollout starts from a SceneState. `proprio` is what the arm's own sensors measure at the end: its joint positions
    [rad or m] and how far its gripper is open, 0 to 1, named by `proprio_names`; None without an arm.
    """

    steps: tuple[RolloutStep, ...]
    state: SimulationState
    pose: Pose | None
    measures: tuple[float, ...]
    end: Snapshot
    robot: RobotDescription | None
    names: SceneNames | None
    view: RenderedView | None
    cost: Cost
    body_poses: BodyPoses | None = None
    base: int | None = None
    proprio: Float[np.ndarray, " proprio"] | None = None
    proprio_names: tuple[str, ...] = ()

"""What an action does to an arm."""

from typing import Any, Literal

from vla_server_base.scenes.messages import BodyPoses, RolloutStep
from vla_server_base.schemas.base import Reply


class ContactReply(Reply):
    """Something that the robot touched during a step."""

    bodies: tuple[str, str]
    force_n: float
    """The most that they pressed on one another [N]."""


class ViolationReply(Reply):
    """A bound that a step went beyond."""

    kind: Literal["joint", "velocity", "workspace", "contact"]
    what: str
    """The joint, the axis, or the two bodies."""
    value: float
    limit: float


class BodyPosesReply(Reply):
    """Where the moving bodies were, 30 frames a simulated second."""

    times: list[float]
    """Simulated time of each frame [s]."""
    frames: list[list[list[float]]]
    """In each frame a row for each body of `pose_bodies`: x y z [m] and w x y z in the world's frame."""


class MotionReply(Reply):
    """What an action does, or did, to the arm."""

    position: tuple[float, float, float]
    """The end effector at the end, in the robot's base frame [m]."""
    quaternion: tuple[float, float, float, float]
    """Its orientation (w x y z)."""
    joint_targets: list[float]
    """Where the controller sent the joints [rad or m], in the order of `robot.joints`."""
    gripper: float
    """Where it sent the gripper: 0 closed, 1 open."""
    scale: float
    """How much of the action's motion was executed; less than 1 where `guard` is `clamp` and had to cut it."""
    contacts: list[ContactReply]
    """What the robot touched, hardest first."""
    violations: list[ViolationReply]
    """Which bounds were passed."""
    poses: BodyPosesReply | None
    """The moving bodies during the action, and during the hold before it; null without `poses`."""


def motion_reply(step: RolloutStep) -> MotionReply:
    """Return what an action does to the arm."""
    return MotionReply(**motion_fields(step))


def motion_fields(step: RolloutStep) -> dict[str, Any]:
    """Return the fields of a MotionReply."""
    return {
        "position": tuple(step.pose.position.tolist()),
        "quaternion": tuple(step.pose.quaternion.tolist()),
        "joint_targets": step.joint_targets.tolist(),
        "gripper": step.gripper_opening,
        "scale": step.scale,
        "contacts": [ContactReply(bodies=contact.bodies, force_n=contact.force_n) for contact in step.contacts],
        "violations": [
            ViolationReply(kind=violation.kind, what=violation.what, value=violation.value, limit=violation.limit)
            for violation in step.violations
        ],
        "poses": body_poses_reply(step.body_poses),
    }


def body_poses_reply(body_poses: BodyPoses | None) -> BodyPosesReply | None:
    """Return frames as replies have them: to a hundredth of a millimetre."""
    if body_poses is None:
        return None
    return BodyPosesReply(times=body_poses.times_s.round(9).tolist(), frames=body_poses.poses.round(5).tolist())

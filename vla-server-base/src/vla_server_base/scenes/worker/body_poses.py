"""Puts a scene's free bodies where a request wants them."""

from collections.abc import Iterable

import mujoco
import numpy as np

from vla_server_base.errors import SceneStateError, UnknownName
from vla_server_base.scenes.messages import BodyPose
from vla_server_base.scenes.worker import scene_names


def put_bodies(model: mujoco.MjModel, data: mujoco.MjData, poses: Iterable[BodyPose]) -> None:
    """Put free bodies where `poses` say, at rest; the caller computes what belongs to the new state.

    Raises:
        UnknownName: the scene has no such body.
        SceneStateError: the body has no free joint, or the pose is not one.
    """
    for pose in poses:
        joint = _free_joint(model, pose.body)
        position, velocity = int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
        data.qpos[position : position + 3] = _position(pose)
        if pose.quaternion is not None:
            data.qpos[position + 3 : position + 7] = _unit_quaternion(pose.body, pose.quaternion)
        data.qvel[velocity : velocity + 6] = 0


def _free_joint(model: mujoco.MjModel, name: str) -> int:
    body = scene_names.index(model, scene_names.BODY, name)
    if body < 0:
        raise UnknownName("body", name, scene_names.some(scene_names.names(model, scene_names.BODY)))
    joint = int(model.body_jntadr[body])
    if joint < 0 or model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_FREE:
        free = model.jnt_bodyid[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
        raise SceneStateError(
            f"the body '{name[:80]}' has no free joint, so it cannot be put elsewhere",
            hint=f"bodies with a free joint: {scene_names.listed(model.body(i).name for i in free)}",
        )
    return joint


def _position(pose: BodyPose) -> np.ndarray:
    if not np.isfinite(pose.position).all():
        raise _not_finite(pose.body, "position")
    return pose.position


def _unit_quaternion(body: str, quaternion: np.ndarray) -> np.ndarray:
    if not np.isfinite(quaternion).all():
        raise _not_finite(body, "quaternion")
    largest = np.abs(quaternion).max()
    if largest < mujoco.mjMINVAL:
        raise SceneStateError(
            f"the quaternion of the body '{body[:80]}' has length zero", hint="for no rotation send 1 0 0 0"
        )
    # In two steps: the length of a huge one is not finite.
    quaternion = quaternion / largest
    return quaternion / np.linalg.norm(quaternion)


def _not_finite(body: str, what: str) -> SceneStateError:
    return SceneStateError(
        f"the {what} of the body '{body[:80]}' holds numbers that are not finite", hint="send no NaN and no infinity"
    )

"""The state of a scene's simulation, as a request sets it."""

import mujoco
import numpy as np

from vla_server_base.errors import SceneStateError, UnknownName
from vla_server_base.scenes.messages import SceneState
from vla_server_base.scenes.worker.body_poses import put_bodies
from vla_server_base.scenes.worker.scene_names import listed, some

# The keyframe of a scene for requests that name none: all zeros is seldom a pose of an arm.
HOME = "home"
JOINT_SIZES = {
    mujoco.mjtJoint.mjJNT_FREE: (7, 6),
    mujoco.mjtJoint.mjJNT_BALL: (4, 3),
    mujoco.mjtJoint.mjJNT_SLIDE: (1, 1),
    mujoco.mjtJoint.mjJNT_HINGE: (1, 1),
}


def apply_state(model: mujoco.MjModel, data: mujoco.MjData, state: SceneState) -> None:
    """Set the simulation to `state` and compute what rendering needs.

    Raises:
        SceneStateError: a wrong size, numbers that are not finite, or a quaternion of length zero.
        UnknownName: the scene has no such keyframe, or no such body.
    """
    home = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, HOME)
    keyframe = home if state.keyframe is None else _keyframe(model, state.keyframe)
    if keyframe < 0:
        mujoco.mj_resetData(model, data)
    else:
        mujoco.mj_resetDataKeyframe(model, data, keyframe)
    for name, target, meaning in (
        ("qpos", data.qpos, lambda: _joints(model, 0)),
        ("qvel", data.qvel, lambda: _joints(model, 1)),
        ("ctrl", data.ctrl, lambda: listed(model.actuator(i).name for i in range(model.nu))),
        ("mocap_pos", data.mocap_pos, lambda: "3 for each mocap body"),
        ("mocap_quat", data.mocap_quat, lambda: "4 for each mocap body, w x y z"),
    ):
        numbers = getattr(state, name)
        if numbers is not None:
            if numbers.shape != target.shape:
                raise SceneStateError(
                    f"{name}: expected {_shape(target)} numbers, got {_shape(numbers)}",
                    hint=meaning() if target.size else "leave it out",
                )
            _check_finite(name, numbers)
            target[:] = numbers
    _normalize_mocap(data)
    put_bodies(model, data, state.bodies)
    mujoco.mj_forward(model, data)
    for name in ("qpos", "geom_xpos", "cam_xpos", "cam_xmat"):
        _check_finite(name, getattr(data, name))


def _keyframe(model: mujoco.MjModel, wanted: str | int) -> int:
    if isinstance(wanted, int):
        if not 0 <= wanted < model.nkey:
            raise SceneStateError(
                f"there is no keyframe {wanted}; this scene has {model.nkey}",
                hint="send a number from 0, or a name",
            )
        return wanted
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, wanted)
    if index < 0:
        raise UnknownName("keyframe", wanted, some(model.key(i).name for i in range(model.nkey)))
    return index


def _joints(model: mujoco.MjModel, kind: int) -> str:
    """List the joints in order, each with its size in qpos (kind 0) or qvel (kind 1)."""
    sizes = (JOINT_SIZES[mujoco.mjtJoint(t)][kind] for t in model.jnt_type)
    return listed(f"{model.joint(i).name or f'joint {i}'} ({size})" for i, size in enumerate(sizes))


def _shape(array: np.ndarray) -> str:
    return " x ".join(str(size) for size in array.shape)


def _check_finite(name: str, numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise SceneStateError(f"{name} holds numbers that are not finite", hint="send no NaN and no infinity")


def _normalize_mocap(data: mujoco.MjData) -> None:
    lengths = np.linalg.norm(data.mocap_quat, axis=1, keepdims=True)
    if (lengths < mujoco.mjMINVAL).any():
        raise SceneStateError("mocap_quat holds a quaternion of length zero", hint="for no rotation send 1 0 0 0")
    data.mocap_quat[:] /= lengths

"""One scene inside a worker: compiled, checked, put into a state, looked at through named cameras."""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

import math
import warnings
from collections.abc import Iterable, Mapping, Set

import mujoco
import numpy as np

from vla_server_base.errors import SceneError, SceneRefused, SceneState, SceneTooLarge, UnknownName
from vla_server_base.scenes import limits
from vla_server_base.scenes.messages import SceneState as State
from vla_server_base.scenes.worker.screening import ScreenedScene
from vla_server_base.scenes.worker.source_lines import SourceLines

CAMERA_HINT = 'add one to the <worldbody>, such as <camera name="primary" pos="1 0 0.8" xyaxes="0 1 0 -0.6 0 1"/>'
# The keyframe that a scene starts from where a request names none: an arm at all zeros is seldom a pose of it.
HOME = "home"
JOINT_SIZES = {
    mujoco.mjtJoint.mjJNT_FREE: (7, 6),
    mujoco.mjtJoint.mjJNT_BALL: (4, 3),
    mujoco.mjtJoint.mjJNT_SLIDE: (1, 1),
    mujoco.mjtJoint.mjJNT_HINGE: (1, 1),
}


def compile_scene(scene: ScreenedScene) -> mujoco.MjModel:
    """Compile a screened scene.

    Never `MjModel.from_xml_string`: after some scenes it spins for ever in that process, MjSpec does not.

    Raises:
        SceneError: with MuJoCo's own words, which name the line where they can.
        SceneTooLarge: it needs more memory than a worker may have.
        SceneRefused: it compiled to more than a stranger's scene may be.
    """
    files = dict(scene.assets)
    # Flexcomps and attached models read theirs with the XML, everything else later; passing 34 MB there takes 150 ms.
    read_with_xml = files if "<flexcomp" in scene.xml or "<model " in scene.xml else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = mujoco.MjSpec.from_string(scene.xml, include=read_with_xml, assets=files).compile()
        except ValueError as error:
            raise scene_error(error, scene.lines) from error
    _check_model(model)
    return model


def scene_error(error: Exception, lines: SourceLines | None = None) -> SceneError:
    """Say to the client what MuJoCo said, by the lines that the client wrote."""
    said = " ".join(str(error).split())[:500]
    said = lines.explain(said) if lines else said
    if is_out_of_memory(error):
        return SceneTooLarge(
            f"the scene needs more memory than it may have: {said}", hint="make it smaller; see <size>"
        )
    return SceneError(f"MuJoCo cannot use this scene: {said}")


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error of Python's or MuJoCo's means that memory is short."""
    return isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error)


def _check_model(model: mujoco.MjModel) -> None:
    for name, cap in limits.MODEL_CAPS.items():
        if getattr(model, name) > cap.largest:
            raise SceneRefused(
                f"the scene compiles to {name}={getattr(model, name)}; {cap.largest} is the most",
                hint=cap.reason,
            )
    extent, near, far = float(model.stat.extent), float(model.vis.map.znear), float(model.vis.map.zfar)
    if not (extent * near >= limits.MIN_NEAR_PLANE and near < far and math.isfinite(np.float32(extent * far))):
        raise SceneRefused(
            f"the camera's clipping planes are at {extent * near:.3g} and {extent * far:.3g} m",
            hint="leave out <statistic extent=...> and <map znear=... zfar=...>",
        )
    if not np.isfinite(model.qpos0).all():
        raise SceneError("the scene's reference positions (qpos0) are not finite")


def apply_state(model: mujoco.MjModel, data: mujoco.MjData, state: State) -> None:
    """Put the simulation where `state` says and compute what a picture needs.

    Raises:
        SceneState: sizes that do not fit, numbers that are not finite, quaternions of no direction.
        UnknownName: a keyframe that the scene has not.
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
        ("ctrl", data.ctrl, lambda: _listed(model.actuator(i).name for i in range(model.nu))),
        ("mocap_pos", data.mocap_pos, lambda: "3 for each mocap body"),
        ("mocap_quat", data.mocap_quat, lambda: "4 for each mocap body, w x y z"),
    ):
        given = getattr(state, name)
        if given is not None:
            if given.shape != target.shape:
                raise SceneState(
                    f"{name} has {_shape(given)} numbers, this scene takes {_shape(target)}", hint=meaning()
                )
            _check_finite(name, given)
            target[:] = given
    _normalize_mocap(data)
    mujoco.mj_forward(model, data)
    for name in ("qpos", "geom_xpos", "cam_xpos", "cam_xmat"):
        _check_finite(name, getattr(data, name))


def _keyframe(model: mujoco.MjModel, wanted: str | int) -> int:
    if isinstance(wanted, int):
        if not 0 <= wanted < model.nkey:
            raise SceneState(f"there is no keyframe {wanted}; this scene has {model.nkey}, counted from 0")
        return wanted
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, wanted)
    if index < 0:
        raise UnknownName("keyframe", wanted, _some(model.key(i).name for i in range(model.nkey)))
    return index


def _joints(model: mujoco.MjModel, kind: int) -> str:
    """List the joints in order, each with how many numbers of qpos (kind 0) or qvel (kind 1) it takes."""
    sizes = (JOINT_SIZES[mujoco.mjtJoint(t)][kind] for t in model.jnt_type)
    return _listed(f"{model.joint(i).name or f'joint {i}'} ({size})" for i, size in enumerate(sizes))


def _listed(names: Iterable[str]) -> str:
    listed = ", ".join(names) or "none"
    return listed if len(listed) <= 500 else listed[:500] + " ..."


def _shape(array: np.ndarray) -> str:
    return " x ".join(str(size) for size in array.shape)


def _check_finite(name: str, numbers: np.ndarray) -> None:
    if not np.isfinite(numbers).all():
        raise SceneState(f"{name} holds numbers that are not finite")


def _normalize_mocap(data: mujoco.MjData) -> None:
    lengths = np.linalg.norm(data.mocap_quat, axis=1, keepdims=True)
    if (lengths < mujoco.mjMINVAL).any():
        raise SceneState("mocap_quat holds a quaternion of length zero", hint="1 0 0 0 is no rotation")
    data.mocap_quat[:] /= lengths


def pick_cameras(model: mujoco.MjModel, wanted: Mapping[str, str | None]) -> Mapping[str, int]:
    """Map the policy's cameras to cameras of the scene, as `View` has them.

    Raises:
        SceneError: the scene has no camera, or none for the policy's first.
        UnknownName: listing the scene's cameras.
    """
    names = [model.camera(i).name for i in range(model.ncam)]
    if not names:
        raise SceneError("the scene has no camera", hint=CAMERA_HINT)
    first, *others = wanted
    picked = {}
    for camera, chosen in wanted.items():
        if chosen:
            picked[camera] = _camera(names, chosen)
        elif chosen is None and camera in names:
            picked[camera] = names.index(camera)
        elif chosen is None and camera == first:
            picked[camera] = _stand_in(names, first, {*others, "wrist"})
    return picked


def _stand_in(names: list[str], first: str, others: Set[str]) -> int:
    """Return the scene's camera for the policy's first one where none is named so: `primary`, else none of others'."""
    candidates = [index for index, name in enumerate(names) if name not in others]
    if not candidates:
        raise SceneError(
            f"the scene has no camera for the policy's '{first}', only {', '.join(_some(names))}",
            hint=f"name one in `camera`, or {CAMERA_HINT}",
        )
    return next((index for index in candidates if names[index] == "primary"), candidates[0])


def _camera(names: list[str], wanted: str) -> int:
    if wanted not in names:
        raise UnknownName("camera", wanted, _some(names))
    return names.index(wanted)


def _some(names: Iterable[str]) -> list[str]:
    """Return as many names as a person would read; a scene may have thousands."""
    return [name[:80] for name in names if name][:50]


def camera_name(model: mujoco.MjModel, index: int) -> str:
    """Name a camera of the scene, also one without a name."""
    return model.camera(index).name or f"camera {index}"

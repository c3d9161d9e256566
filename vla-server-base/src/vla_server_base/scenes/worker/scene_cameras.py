"""Which cameras of a scene stand for the policy's cameras."""

from collections.abc import Mapping, Set

import mujoco

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.worker.scene_names import some

CAMERA_HINT = 'add one to the <worldbody>, such as <camera name="primary" pos="1 0 0.8" xyaxes="0 1 0 -0.6 0 1"/>'


def pick_cameras(model: mujoco.MjModel, wanted: Mapping[str, str | None]) -> Mapping[str, int]:
    """Map the policy's cameras to cameras of the scene, as `View` has them.

    Raises:
        SceneError: the scene has no camera, or no camera for the policy's first one.
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
            picked[camera] = _first_camera(names, first, {*others, "wrist"})
    return picked


def _first_camera(names: list[str], first: str, others: Set[str]) -> int:
    """Return a camera for the policy's first one if none has its name: `primary`, or one that no other camera takes."""
    candidates = [index for index, name in enumerate(names) if name not in others]
    if not candidates:
        raise SceneError(
            f"the scene has no camera for the policy's '{first}', only {', '.join(some(names))}",
            hint=f"name one in `camera`, or {CAMERA_HINT}",
        )
    return next((index for index in candidates if names[index] == "primary"), candidates[0])


def _camera(names: list[str], wanted: str) -> int:
    if wanted not in names:
        raise UnknownName("camera", wanted, some(names))
    return names.index(wanted)


def camera_name(model: mujoco.MjModel, index: int) -> str:
    """Name a camera of the scene, also one without a name."""
    return model.camera(index).name or f"camera {index}"

"""Which cameras of a scene stand for the policy's cameras, by the scene's names."""

from collections.abc import Mapping, Sequence, Set

from vla_server_base.errors import SceneError, UnknownName
from vla_server_base.scenes.messages import View

CAMERA_HINT = 'add one to the <worldbody>, such as <camera name="primary" pos="1 0 0.8" xyaxes="0 1 0 -0.6 0 1"/>'
MAX_LISTED, MAX_LISTED_CHARS = 50, 80


def choose_cameras(names: Sequence[str], view: View) -> Mapping[str, int]:
    """Map the policy's cameras to cameras of a scene, as `View` has them; `names` are the scene's, "" without a name.

    Raises:
        SceneError: the scene has no camera, or no camera for the policy's first one or for a required one.
        UnknownName: listing the scene's cameras.
    """
    if not names:
        raise SceneError("the scene has no camera", hint=CAMERA_HINT)
    first, *others = view.cameras
    chosen = {}
    for camera, wanted in view.cameras.items():
        if wanted:
            chosen[camera] = _camera(names, wanted)
        elif wanted is None and camera in names:
            chosen[camera] = names.index(camera)
        elif wanted is None and view.substitutes.get(camera) in names:
            chosen[camera] = names.index(view.substitutes[camera])
        elif wanted is None and camera == first:
            chosen[camera] = _first_camera(names, first, {*others, "wrist"})
    if missing := [camera for camera in view.cameras if camera in view.required and camera not in chosen]:
        raise SceneError(
            f"the scene has no camera for the policy's {', '.join(missing)}, only {', '.join(_some(names))}",
            hint="say in `cameras` which of the scene's each is, or set VLA_SCENE_CAMERAS; or " + CAMERA_HINT,
        )
    return chosen


def _first_camera(names: Sequence[str], first: str, others: Set[str]) -> int:
    """Return a camera for the policy's first one if none has its name: `primary`, or one that no other camera takes.

    None of them shows what a camera of a wrist does.
    """
    candidates = [index for index, name in enumerate(names) if name not in others and "wrist" not in first]
    if not candidates:
        raise SceneError(
            f"the scene has no camera for the policy's '{first}', only {', '.join(_some(names))}",
            hint=f"name one in `camera`, or {CAMERA_HINT}",
        )
    return next((index for index in candidates if names[index] == "primary"), candidates[0])


def _camera(names: Sequence[str], wanted: str) -> int:
    if wanted not in names:
        raise UnknownName("camera", wanted, _some(names))
    return names.index(wanted)


def _some(names: Sequence[str]) -> list[str]:
    """Return as many names as a person would read; a scene may have thousands."""
    return [name[:MAX_LISTED_CHARS] for name in names if name][:MAX_LISTED]

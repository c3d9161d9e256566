"""Under which keys a recording has what an episode is made of: as somebody says, or by names that are known."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from vla_server_base.errors import DatasetError

IMAGES = "observation.images."
CAMERA_NAMES = {"observation.image": "primary", "image": "primary", "wrist_image": "wrist"}
"""Of LeRobot's datasets with one camera, and of those that openpi's scripts make."""

RECORDED_CAMERAS = {
    **dict.fromkeys(("image", "image_0", "rgb_static", "agentview_image", "agentview_rgb"), "primary"),
    **dict.fromkeys(("wrist_image", "hand_image", "image_wrist", "rgb_gripper"), "wrist"),
    **dict.fromkeys(("robot0_eye_in_hand_image", "eye_in_hand_rgb"), "wrist"),
}
"""Of robomimic, LIBERO and Open X-Embodiment, in which the reference has them as primary and wrist."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Where to look; what is left empty is found by the names that are known.

    Of several `action` or `state` keys the numbers are put behind one another. `cameras` are the keys of pictures by
    the names that the cameras get: all that there are, by default. `instruction` is the key of a text.
    """

    action: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    cameras: Mapping[str, str] = field(default_factory=dict)
    instruction: str | None = None


def chosen_keys(
    what: str, asked: tuple[str, ...], known: tuple[tuple[str, ...], ...], there: Collection[str], where: str
) -> tuple[str, ...]:
    """Return the keys that are asked for, else the first of the `known` sets that is there in full, else none.

    Raises:
        DatasetError: what is asked for is not there; `what` is the option that asks, `where` the recording.
    """
    if absent := [key for key in asked if key not in there]:
        raise DatasetError(f"{where} has no '{absent[0]}'", hint=choose(what, there))
    return asked or next((keys for keys in known if set(keys) <= set(there)), ())


def choose(what: str, there: Collection[str]) -> str:
    """Return a hint that says what there is to choose from."""
    return f"name it by {what}; there are: {', '.join(sorted(there)) or 'none'}"


def camera_name(key: str) -> str:
    """Return what the camera of one of LeRobot's features is called."""
    return CAMERA_NAMES.get(key, key.removeprefix(IMAGES))


def named_cameras(asked: Mapping[str, str], there: Sequence[str], where: str) -> dict[str, str]:
    """Return the keys of pictures by the cameras' names: those that are asked for, else all, by the last of the key.

    Raises:
        DatasetError: what is asked for is not there.
    """
    for name, key in asked.items():
        if key not in there:
            raise DatasetError(f"{where} has no pictures '{key}'", hint=choose(f"--camera {name}=", there))
    if asked:
        return dict(asked)
    own = {key: key.rpartition("/")[2] for key in there}
    names: dict[str, str] = {}
    for key, last in own.items():
        name = RECORDED_CAMERAS.get(last, last)
        names[last if name in names else name] = key
    return names

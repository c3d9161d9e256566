"""The keys under which a recording stores an episode's fields: chosen by the user, or known names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from vla_server_base.errors import DatasetError

IMAGES = "observation.images."
CAMERA_NAMES = {"observation.image": "primary", "image": "primary", "wrist_image": "wrist"}
"""The cameras of LeRobot datasets with one camera, and of datasets made by openpi's scripts."""

RECORDED_CAMERAS = {
    **dict.fromkeys(("image", "image_0", "rgb_static", "agentview_image", "agentview_rgb"), "primary"),
    **dict.fromkeys(("wrist_image", "hand_image", "image_wrist", "rgb_gripper"), "wrist"),
    **dict.fromkeys(("robot0_eye_in_hand_image", "eye_in_hand_rgb"), "wrist"),
}
"""The cameras of robomimic, LIBERO and Open X-Embodiment, which the reference calls primary and wrist."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Where the fields of an episode are; an empty one is looked up by known names.

    The numbers of several `action` or `state` keys are concatenated. `cameras` are the keys of images by the names
    that the cameras get, by default all images. `instruction` is the key of a text.
    """

    action: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    cameras: Mapping[str, str] = field(default_factory=dict)
    instruction: str | None = None


def chosen_keys(
    option: str, chosen: tuple[str, ...], known: tuple[tuple[str, ...], ...], available: Collection[str], source: str
) -> tuple[str, ...]:
    """Return the chosen keys, or else the first of the `known` sets that is complete, or else none.

    Raises:
        DatasetError: `source` lacks a chosen key; the hint names the command line `option`.
    """
    if absent := [key for key in chosen if key not in available]:
        raise DatasetError(f"{source} has no '{absent[0]}'", hint=choose(option, available))
    return chosen or next((keys for keys in known if set(keys) <= set(available)), ())


def choose(option: str, available: Collection[str]) -> str:
    """Return a hint that lists what a command line option can be."""
    return f"choose with {option}; available: {', '.join(sorted(available)) or 'none'}"


def camera_name(key: str) -> str:
    """Return the name of the camera of a LeRobot feature."""
    return CAMERA_NAMES.get(key, key.removeprefix(IMAGES))


def named_cameras(chosen: Mapping[str, str], available: Sequence[str], source: str) -> dict[str, str]:
    """Return the keys of images by camera name: the chosen ones, or else all, named by the last part of their key.

    Raises:
        DatasetError: `source` lacks a chosen key.
    """
    for name, key in chosen.items():
        if key not in available:
            raise DatasetError(f"{source} has no images '{key}'", hint=choose(f"--camera {name}=", available))
    if chosen:
        return dict(chosen)
    cameras: dict[str, str] = {}
    for key in available:
        last = key.rpartition("/")[2]
        name = RECORDED_CAMERAS.get(last, last)
        cameras[last if name in cameras else name] = key
    return cameras

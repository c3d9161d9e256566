"""The names under which clients send images, proprio and the instruction, and a lab's additions to them.

The place of a value does not matter: `observation/images/cam_high`, `observation.images.cam_high`, `images.cam_high`
and `cam_high` in a map `images` are all `cam_high`.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.contract import PolicySpec

PLACES = ("observation", "observations", "images", "image", "video", "pixels", "language")
"""Prefixes of a name, once or more: the maps that hold images or other values."""

KNOWN_KEYS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "primary": (
            "primary",
            "image_primary",
            "observation/image",
            "image",
            "image_0",
            "full_image",
            "front",
            "front_rgb",
            "top",
            "up",
            "side",
            "laptop",
            "phone",
            "fixed",
            "camera1",
            "cam_high",
            "base_0_rgb",
            "base_rgb",
            "base_camera",
            "ego_view",
            "exterior_image_0_left",
            "exterior_image_1_left",
            "exterior_image_2_left",
            "exterior_image_1",
            "exterior_image_2",
            "exterior_1_left",
            "exterior_2_left",
            "agentview",
            "agentview_image",
            "agentview_rgb",
            "robot0_agentview_left",
            "robot0_agentview_right",
            "3rd_view_camera",
            "overhead_camera",
            "head_camera",
            "exo_camera_1",
            "rgb_static",
            "rgb",
        ),
        "wrist": (
            "wrist",
            "image_wrist",
            "observation/wrist_image",
            "wrist_image",
            "wrist_image_left",
            "wrist_rgb",
            "wrist_camera",
            "cam_wrist",
            "left_wrist_image",
            "right_wrist_image",
            "left_wrist_0_rgb",
            "right_wrist_0_rgb",
            "wrist_0_rgb",
            "cam_left_wrist",
            "cam_right_wrist",
            "left_wrist",
            "right_wrist",
            "hand_camera",
            "hand_image",
            "handeye",
            "gripper",
            "eye_in_hand_rgb",
            "robot0_eye_in_hand",
            "robot0_eye_in_hand_image",
            "rgb_gripper",
        ),
        "proprio": ("proprio", "observation/state", "state", "states"),
        "instruction": (
            "instruction",
            "prompt",
            "task",
            "text",
            "task_description",
            "language",
            "language_instruction",
            "annotation.human.action.task_description",
            "annotation.human.task_description",
            "annotation.human.coarse_action",
        ),
    }
)

IN_ORDER: Sequence[Sequence[str]] = (
    ("exterior_image_0_left", "exterior_image_1_left", "exterior_image_2_left"),
    ("exterior_image_1", "exterior_image_2"),
    ("exterior_1_left", "exterior_2_left"),
    ("robot0_agentview_left", "robot0_agentview_right"),
    ("left_wrist_image", "right_wrist_image"),
    ("left_wrist_0_rgb", "right_wrist_0_rgb"),
    ("cam_left_wrist", "cam_right_wrist"),
    ("left_wrist", "right_wrist"),
)
"""Cameras that clients send together, in order of precedence: DROID's, RoboArena's, those of two hands, and others."""

GROUPS: Mapping[str, str] = MappingProxyType({key: order[0] for order in IN_ORDER for key in order})
"""The group of each camera that clients send together with others."""

ALSO_NUMBERS = ("gripper",)
"""Cameras' names under which robots also send numbers, such as the gripper's opening."""

_SIDES = ("left", "right")
_SEPARATOR = re.compile(r"[./]")


@lru_cache(maxsize=4096)
def bare_key(key: str) -> str:
    """Return a key without the places before it, its parts separated by dots; cached, as clients repeat it."""
    parts = _SEPARATOR.split(key)
    while len(parts) > 1 and parts[0] in PLACES:
        del parts[0]
    return ".".join(parts)


def own_keys(name: str) -> Sequence[str]:
    """Return the known keys of a camera, of proprio or of the instruction; any camera's are its name in each place."""
    places = (name, f"observation.images.{name}", f"observation/{name}", f"image_{name}", f"observation/image_{name}")
    return KNOWN_KEYS.get(name, (*places, f"video.{name}"))


def lent_name(camera: str, cameras: Sequence[str]) -> str | None:
    """Return whose known keys a camera also has: `primary` or `wrist`, which the policy's `cameras` lack.

    The first camera has those of `primary`, unless it is at a wrist; the only one at a wrist has those of `wrist`.
    """
    at_wrist = [each for each in cameras if "wrist" in each]
    if at_wrist == [camera] and camera != "wrist":
        return "wrist"
    return "primary" if camera == cameras[0] and camera not in at_wrist and "primary" not in cameras else None


def is_of_other_side(key: str, camera: str) -> bool:
    """Return whether a key names the left camera and the camera is a right one, or the other way round."""
    sides, camera_sides = ({side for side in _SIDES if side in name} for name in (key, camera))
    return bool(sides and camera_sides and not sides & camera_sides)


def lab_keys(config: ServerConfig) -> dict[str, tuple[str, ...]]:
    """Return the keys that the configuration adds to each name, in order of precedence.

    Raises:
        ConfigError: `config.observation_keys` is not of the form "primary=images.top wrist=hand".
    """
    keys: dict[str, tuple[str, ...]] = {}
    for entry in config.observation_keys.split():
        name, _, key = entry.partition("=")
        if not name or not key:
            hint = "write name=key; names are the policy's cameras, proprio and instruction"
            raise ConfigError(f"VLA_OBSERVATION_KEYS: '{entry}' is not of the form name=key", hint=hint)
        keys[name] = (key, *keys.get(name, ()))
    return keys


def check_lab_keys(config: ServerConfig, spec: PolicySpec) -> None:
    """Refuse keys of cameras that neither this policy nor other policies have.

    Raises:
        ConfigError: naming the cameras.
    """
    names = dict.fromkeys((*spec.camera_names, *KNOWN_KEYS))
    if unknown := [name for name in lab_keys(config) if name not in names]:
        raise ConfigError(
            f"VLA_OBSERVATION_KEYS: this policy has no camera '{unknown[0]}'", hint=f"names are: {', '.join(names)}"
        )

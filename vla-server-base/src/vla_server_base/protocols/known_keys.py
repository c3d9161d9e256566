"""What clients call pictures, proprio and the instruction: the names in use, each an exact entry, and a lab's own.

Where a value stands does not matter: `observation/images/cam_high`, `observation.images.cam_high`, `images.cam_high`
and `cam_high` in a map `images` all are `cam_high`.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.contract import PolicySpec

PLACES = ("observation", "observations", "images", "image", "video", "pixels", "language")
"""What may stand before a name, once or more; maps that pictures and the like are in."""

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
"""Cameras that clients send together, the one that is taken first: DROID's and RoboArena's, two hands' and the like."""

GROUPS: Mapping[str, str] = MappingProxyType({key: order[0] for order in IN_ORDER for key in order})
"""By the name of a camera that others may come along with, the name of them all."""

ALSO_NUMBERS = ("gripper",)
"""Cameras' names by which robots also send numbers: here, how far a hand is open."""

_SEPARATOR = re.compile(r"[./]")


@lru_cache(maxsize=4096)
def bare_key(key: str) -> str:
    """Return a key without the places that stand before it, its parts separated by dots; a client says it each turn."""
    parts = _SEPARATOR.split(key)
    while len(parts) > 1 and parts[0] in PLACES:
        del parts[0]
    return ".".join(parts)


def own_keys(config: ServerConfig) -> dict[str, tuple[str, ...]]:
    """Return a lab's own keys by what they are of, the one to take first in front.

    Raises:
        ConfigError: `config.observation_keys` is not of the form "primary=images.top wrist=hand".
    """
    keys: dict[str, tuple[str, ...]] = {}
    for entry in config.observation_keys.split():
        name, _, key = entry.partition("=")
        if not name or not key:
            hint = "names are those of the policy's cameras, proprio and instruction"
            raise ConfigError(f"VLA_OBSERVATION_KEYS: '{entry}' is not name=key", hint=hint)
        keys[name] = (key, *keys.get(name, ()))
    return keys


def check_own_keys(config: ServerConfig, spec: PolicySpec) -> None:
    """Refuse keys of cameras that neither this policy has nor others usually have.

    Raises:
        ConfigError: naming the cameras.
    """
    names = dict.fromkeys((*spec.camera_names, *KNOWN_KEYS))
    if unknown := [name for name in own_keys(config) if name not in names]:
        raise ConfigError(
            f"VLA_OBSERVATION_KEYS: this policy has no camera '{unknown[0]}'", hint=f"names are: {', '.join(names)}"
        )

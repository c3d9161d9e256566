"""Images at a policy's sizes, resized as LeRobot's own server resizes them."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn.functional import interpolate

from lerobot_service.config import LeRobotConfig
from vla_server_base.config import config_from_environment
from vla_server_base.contract import Image


def resize(
    image: Image, height: int, width: int, *, antialias: bool = False
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Resize an image bilinearly, without regard to its aspect; follows LeRobot's `resize_robot_observation_image`.

    That takes no average over the pixels it passes over, so a small image of a large one aliases; `antialias` does.
    """
    if image.shape[:2] == (height, width):
        return image
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    resized = interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False, antialias=antialias)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def resize_as_served(image: Image, height: int, width: int) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Resize an image as a service with this environment does (`LEROBOT_ANTIALIAS`): its policy will see the same."""
    return resize(image, height, width, antialias=config_from_environment(LeRobotConfig, "LEROBOT").antialias)

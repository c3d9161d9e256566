"""The cameras of a compiled scene."""

from collections.abc import Mapping

import mujoco

from vla_server_base.scenes.camera_choice import choose_cameras
from vla_server_base.scenes.messages import View


def pick_cameras(model: mujoco.MjModel, view: View) -> Mapping[str, int]:
    """Map the policy's cameras to cameras of the scene.

    Raises:
        SceneError, UnknownName: see `choose_cameras`.
    """
    return choose_cameras([model.camera(i).name for i in range(model.ncam)], view)


def camera_name(model: mujoco.MjModel, index: int) -> str:
    """Name a camera of the scene, also one without a name."""
    return model.camera(index).name or f"camera {index}"

"""The server's setting for scenes whose cameras have other names than the policy's."""

from collections.abc import Mapping
from functools import lru_cache

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.contract import PolicySpec


@lru_cache
def scene_cameras(config: ServerConfig) -> Mapping[str, str]:
    """Return the scenes' cameras that the configuration gives to the policy's, of which each is read once.

    Raises:
        ConfigError: `config.scene_cameras` is not of the form "top=primary left_wrist=wrist".
    """
    cameras: dict[str, str] = {}
    for entry in config.scene_cameras.split():
        camera, _, of_scene = entry.partition("=")
        if not camera or not of_scene:
            hint = "write policy_camera=scene_camera, such as top=primary"
            raise ConfigError(f"VLA_SCENE_CAMERAS: '{entry}' is not of the form camera=camera", hint=hint)
        if camera in cameras:
            raise ConfigError(f"VLA_SCENE_CAMERAS: '{camera}' is given twice", hint="give each camera once")
        cameras[camera] = of_scene
    return cameras


def check_scene_cameras(config: ServerConfig, spec: PolicySpec) -> None:
    """Refuse scenes' cameras for cameras that this policy does not have.

    Raises:
        ConfigError: naming the camera.
    """
    if unknown := [camera for camera in scene_cameras(config) if camera not in spec.camera_names]:
        raise ConfigError(
            f"VLA_SCENE_CAMERAS: this policy has no camera '{unknown[0]}'",
            hint=f"it has: {', '.join(spec.camera_names)}",
        )

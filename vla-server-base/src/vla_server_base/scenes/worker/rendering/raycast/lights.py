"""The lights of a scene, as OpenGL's fixed pipeline knows them."""

import mujoco
import numpy as np

from vla_server_base.scenes.worker.rendering.raycast.shading import Light

MAX_LIGHTS = 8
"""As many as OpenGL's fixed pipeline has."""

LIGHTLESS_AMBIENT = 0.3
"""`initLights` of MuJoCo's render_gl3.c: for a scene without lights."""


def scene_lights(scene: mujoco.MjvScene) -> list[Light]:
    """Return the lights that MuJoCo's renderer knows: directional lights and spotlights."""
    lights = [
        Light(
            position=light.pos,
            direction=light.dir,
            ambient=light.ambient,
            diffuse=light.diffuse,
            specular=light.specular,
            attenuation=None if light.type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL else light.attenuation,
            cutoff_degrees=light.cutoff,
            exponent=light.exponent,
        )
        for light in scene.lights[: min(scene.nlight, MAX_LIGHTS)]
        if light.type in (mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, mujoco.mjtLightType.mjLIGHT_SPOT)
    ]
    return lights or [_ambient_light()]


def _ambient_light() -> Light:
    dark = np.zeros(3, np.float32)
    return Light(
        position=dark,
        direction=np.array([0, 0, -1], np.float32),
        ambient=dark + np.float32(LIGHTLESS_AMBIENT),
        diffuse=dark,
        specular=dark,
        attenuation=None,
        cutoff_degrees=180,
        exponent=0,
    )

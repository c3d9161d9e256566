"""What a page needs of a scene beyond glTF: names, the state, MuJoCo's light at the camera, fog, the sky."""

from typing import Any

import mujoco
import numpy as np

from vla_server_base.scenes.worker.geometry.numbers import number, numbers
from vla_server_base.scenes.worker.geometry.textures import Textures, read_images
from vla_server_base.scenes.worker.rendering.raycast.textures import CUBE_FACES
from vla_server_base.scenes.worker.scene_names import BODY, JOINT, names

RIGHT, LEFT, UP, DOWN, BACK, FRONT = range(CUBE_FACES)
"""The faces of a sky in MuJoCo's order; y is up."""

PLAIN = 4
"""Levels of 255 by which the colours of one height of a sky may differ, to be a gradient."""


def scene_extras(model: mujoco.MjModel, data: mujoco.MjData, scene_id: str, textures: Textures) -> dict[str, Any]:
    """Return the extras of the file's scene; a sky that is an image comes into the file."""
    light, clipping, rgba = model.vis.headlight, model.vis.map, model.vis.rgba
    extent = float(model.stat.extent)
    return {
        "scene_id": scene_id,
        "bodies": names(model, BODY),
        "joints": names(model, JOINT),
        "state": {
            "qpos": data.qpos.tolist(),
            "qvel": data.qvel.tolist(),
            "ctrl": data.ctrl.tolist(),
            "time": float(data.time),
        },
        "extent": number(extent),
        "center": numbers(model.stat.center),
        "headlight": {
            "active": bool(light.active),
            **{name: numbers(getattr(light, name)) for name in ("ambient", "diffuse", "specular")},
        },
        "fog": {
            "color": numbers(rgba.fog),
            "start": number(clipping.fogstart * extent),
            "end": number(clipping.fogend * extent),
        },
        "haze": {"color": numbers(rgba.haze), "share": number(clipping.haze)},
        "znear": number(clipping.znear * extent),
        "zfar": number(clipping.zfar * extent),
        "skybox": _sky(model, textures),
    }


def _sky(model: mujoco.MjModel, textures: Textures) -> dict[str, Any] | None:
    """Return a sky's colours from above to below, and its image where they do not say all; None without a sky."""
    for texture in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)[:1].tolist():
        images = read_images(model, texture)
        if images is None:
            return None
        width = images.shape[2]
        faces = np.broadcast_to(images, (CUBE_FACES, *images.shape[1:]))
        sides = faces[[RIGHT, LEFT, BACK, FRONT]]
        rows = sides.mean(axis=(0, 2))
        sky: dict[str, Any] = {
            "up": numbers(faces[UP].mean(axis=(0, 1)) / 255),
            "horizon": numbers(rows[(width - 1) // 2 : width // 2 + 1].mean(axis=0) / 255),
            "down": numbers(faces[DOWN].mean(axis=(0, 1)) / 255),
        }
        if np.abs(sides - rows[:, None]).max() > PLAIN:
            placed = textures.add(texture)
            assert placed is not None, "its pixels can be read"
            sky["texture"] = placed.index
        return sky
    return None

"""The materials of a model's geoms."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float32

GEOM_RGBA_UNSET = (0.5, 0.5, 0.5, 1.0)
OPAQUE_ALPHA = 0.995
"""From which on MuJoCo draws a geom as opaque."""


@dataclass(frozen=True, kw_only=True)
class Materials:
    """One column for each geom."""

    rgba: Float32[np.ndarray, "rgba geoms"]
    emission: Float32[np.ndarray, " geoms"]
    specular: Float32[np.ndarray, " geoms"]
    shininess: Float32[np.ndarray, " geoms"]


def read_materials(model: mujoco.MjModel) -> Materials:
    """Follow `setMaterial` of MuJoCo's engine_vis_visualize: a geom's own colour wins if it was set."""
    rgba = np.clip(model.geom_rgba, 0, 1)
    emission = np.zeros(model.ngeom, np.float32)
    specular, shininess = emission + np.float32(0.5), emission + np.float32(0.5)
    for geom in np.flatnonzero(model.geom_matid >= 0).tolist():
        material = model.geom_matid[geom]
        if (rgba[geom] == GEOM_RGBA_UNSET).all():
            rgba[geom] = np.clip(model.mat_rgba[material], 0, 1)
        emission[geom] = model.mat_emission[material]
        specular[geom] = model.mat_specular[material]
        shininess[geom] = model.mat_shininess[material]
    rgba[:, 3] = np.where(rgba[:, 3] < OPAQUE_ALPHA, rgba[:, 3], 1)
    return Materials(rgba=np.ascontiguousarray(rgba.T), emission=emission, specular=specular, shininess=shininess)

"""A geom as something to lay a texture on."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float32

from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import CAPSULE, HFIELD, MESH, PLANE, SDF

Columns = Float32[np.ndarray, "axes vertices"]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A geom's type, drawn half sizes [m], and how often its material repeats a texture."""

    kind: int
    sizes: Float32[np.ndarray, " 3"]
    repeats: Float32[np.ndarray, " 2"]
    is_uniform: bool

    @property
    def depends_on_size(self) -> bool:
        """Whether geoms of this type but of other sizes have other texture coordinates."""
        return self.is_uniform or self.kind in (CAPSULE, PLANE, HFIELD, MESH, SDF)

    def sizes_of(self, points: Columns) -> Columns:
        """Return the sizes once for each point."""
        return np.repeat(self.sizes[:, None], points.shape[1], axis=1)


def read_surface(model: mujoco.MjModel, geom: int, sizes: Float32[np.ndarray, " 3"]) -> Surface:
    """Return how a geom of these drawn half sizes bears the texture of its material."""
    material = int(model.geom_matid[geom])
    return Surface(
        kind=int(model.geom_type[geom]),
        sizes=sizes,
        repeats=model.mat_texrepeat[material].astype(np.float32),
        is_uniform=bool(model.mat_texuniform[material]),
    )


def columns(points: Float32[np.ndarray, "vertices axes"]) -> Columns:
    """Return points as the ray caster has them: one column for each."""
    return np.ascontiguousarray(points.T, np.float32)

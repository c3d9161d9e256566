"""Where on a texture the vertices of a geom lie, as MuJoCo's renderer lays textures on geoms."""

from dataclasses import dataclass, replace

import mujoco
import numpy as np
from jaxtyping import Float32, Int

from vla_server_base.scenes.worker.geometry.textures import PlacedTexture
from vla_server_base.scenes.worker.geometry.triangles import Triangles
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import (
    CAPSULE,
    HFIELD,
    MESH,
    PLANE,
    SDF,
    SPHERE,
    cube_coordinates,
    cube_faces,
    surface_coordinates,
    surface_faces,
    unit_points,
)
from vla_server_base.scenes.worker.rendering.raycast.texturing import PROJECTED, ROUND

Columns = Float32[np.ndarray, "axes vertices"]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A geom to lay a texture on: its type, drawn half sizes [m], and how often its material repeats the texture."""

    kind: int
    sizes: Float32[np.ndarray, " 3"]
    repeats: Float32[np.ndarray, " 2"]
    is_uniform: bool


def lay_texture(texture: PlacedTexture, surface: Surface, triangles: Triangles) -> Triangles:
    """Return triangles, which are in the geom's frame [m], with coordinates on a texture."""
    if texture.is_cube:
        return _on_cube(texture, surface, triangles)
    if surface.kind not in PROJECTED:
        return _around(surface, triangles)
    if surface.kind == MESH and triangles.coordinates is not None:
        return replace(triangles, coordinates=triangles.coordinates * _scale(surface))
    return _from_above(surface, triangles)


def _scale(surface: Surface) -> Float32[np.ndarray, " 2"]:
    scale = np.where(surface.repeats > 0, surface.repeats, np.float32(1))
    return np.where((surface.sizes[:2] > 0) & surface.is_uniform, scale * surface.sizes[:2], scale)


def _around(surface: Surface, triangles: Triangles) -> Triangles:
    """Lay a texture around a primitive; each face has its own corners, for seams and edges."""
    unshared = triangles.unshared()
    middles = _columns(unshared.points.reshape(-1, 3, 3).mean(axis=1))
    parts = surface_faces(surface.kind, middles, _sizes(surface, middles))
    points = _columns(unshared.points)
    coordinates = surface_coordinates(surface.kind, points, _sizes(surface, points), np.repeat(parts, 3))
    if surface.kind in ROUND:
        _close_seam(surface, coordinates, points, middles, parts)
    is_endless = surface.kind == PLANE and not (surface.sizes[:2] > 0).all()
    coordinates = coordinates * _scale(surface)[:, None] - np.float32(0.5) * is_endless
    return replace(unshared, coordinates=np.ascontiguousarray(coordinates.T, np.float32))


def _close_seam(
    surface: Surface, coordinates: Columns, points: Columns, middles: Columns, parts: Int[np.ndarray, " faces"]
) -> None:
    """Have a face's corners on one side of the seam, where its middle is; a pole lies over the middle."""
    across = surface_coordinates(surface.kind, middles, _sizes(surface, middles), parts)[0].repeat(3)
    is_pole = np.hypot(points[0], points[1]) < 1e-6 * surface.sizes[0]
    is_cap = np.zeros(len(across), bool) if surface.kind in (SPHERE, CAPSULE) else np.repeat(parts != 0, 3)
    turned = coordinates[0] - np.round(coordinates[0] - across)
    coordinates[0] = np.where(is_cap, coordinates[0], np.where(is_pole, across, turned))


def _from_above(surface: Surface, triangles: Triangles) -> Triangles:
    scale = surface.repeats
    if not surface.is_uniform:
        scale = np.where(surface.sizes[:2] > 0, scale / np.maximum(surface.sizes[:2], 1e-9), scale)
    coordinates = triangles.points[:, :2] * scale * [1, -1] / 2 - 0.5
    return replace(triangles, coordinates=coordinates.astype(np.float32))


def _on_cube(texture: PlacedTexture, surface: Surface, triangles: Triangles) -> Triangles:
    """Lay a face of a cube map on each triangle: the one that its middle looks at."""
    unshared = triangles.unshared()
    points = _columns(unshared.points)
    directions = unit_points(surface.kind, points, _sizes(surface, points))
    if surface.is_uniform:
        directions = directions * surface.sizes[:, None]
    middles = directions.reshape(3, -1, 3).mean(axis=2)
    sides = np.repeat(cube_faces(middles), 3)
    # Half a texel inside, where no neighbour in the image shines through.
    inset = np.float32(0.5 / texture.width)
    coordinates = np.clip(cube_coordinates(directions, sides), inset, 1 - inset)
    coordinates[1] = (coordinates[1] + sides % texture.num_images) / texture.num_images
    return replace(unshared, coordinates=np.ascontiguousarray(coordinates.T, np.float32))


def _columns(points: np.ndarray) -> Columns:
    return np.ascontiguousarray(points.T, np.float32)


def _sizes(surface: Surface, points: Columns) -> Columns:
    return np.repeat(surface.sizes[:, None], points.shape[1], axis=1)


def read_surface(model: mujoco.MjModel, geom: int, sizes: Float32[np.ndarray, " 3"]) -> Surface:
    """Return how a material lies on a geom of these drawn half sizes."""
    material = int(model.geom_matid[geom])
    return Surface(
        kind=int(model.geom_type[geom]),
        sizes=sizes,
        repeats=model.mat_texrepeat[material].astype(np.float32),
        is_uniform=bool(model.mat_texuniform[material]),
    )


def depends_on_size(surface: Surface) -> bool:
    """Return whether geoms of one type but of other sizes have other coordinates."""
    return surface.is_uniform or surface.kind in (CAPSULE, PLANE, HFIELD, MESH, SDF)

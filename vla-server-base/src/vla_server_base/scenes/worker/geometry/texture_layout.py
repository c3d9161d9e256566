"""Where on a texture the vertices of a geom lie, as MuJoCo's renderer lays textures on geoms."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int

from vla_server_base.scenes.worker.geometry.cube_layout import lay_cube
from vla_server_base.scenes.worker.geometry.surface import Columns, Surface, columns
from vla_server_base.scenes.worker.geometry.textures import PlacedTexture
from vla_server_base.scenes.worker.geometry.triangles import Triangles
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import (
    CYLINDER,
    MESH,
    PLANE,
    surface_coordinates,
    surface_faces,
)
from vla_server_base.scenes.worker.rendering.raycast.texturing import PROJECTED, ROUND


def lay_texture(texture: PlacedTexture, surface: Surface, triangles: Triangles) -> Triangles:
    """Return triangles, which are in the geom's frame [m], with coordinates on a texture."""
    if texture.is_cube:
        return lay_cube(texture, surface, triangles)
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
    middles = columns(unshared.points.reshape(-1, 3, 3).mean(axis=1))
    parts = surface_faces(surface.kind, middles, surface.sizes_of(middles))
    points = columns(unshared.points)
    coordinates = surface_coordinates(surface.kind, points, surface.sizes_of(points), np.repeat(parts, 3))
    if surface.kind in ROUND:
        _close_seam(surface, coordinates, points, middles, parts)
    is_endless = surface.kind == PLANE and not (surface.sizes[:2] > 0).all()
    coordinates = coordinates * _scale(surface)[:, None] - np.float32(0.5) * is_endless
    return replace(unshared, coordinates=np.ascontiguousarray(coordinates.T, np.float32))


def _close_seam(
    surface: Surface,
    coordinates: Float32[np.ndarray, "uv vertices"],
    points: Columns,
    middles: Float32[np.ndarray, "axes faces"],
    parts: Int[np.ndarray, " faces"],
) -> None:
    """Have a face's corners on one side of the seam, where its middle is; a pole lies over the middle."""
    across = surface_coordinates(surface.kind, middles, surface.sizes_of(middles), parts)[0].repeat(3)
    is_pole = np.hypot(points[0], points[1]) < 1e-6 * surface.sizes[0]
    is_round = np.repeat((surface.kind != CYLINDER) | (parts == 0), 3)
    beside = np.where(is_pole, across, coordinates[0] - np.round(coordinates[0] - across))
    coordinates[0] = np.where(is_round, beside, coordinates[0])


def _from_above(surface: Surface, triangles: Triangles) -> Triangles:
    scale = surface.repeats
    if not surface.is_uniform:
        scale = np.where(surface.sizes[:2] > 0, scale / np.maximum(surface.sizes[:2], 1e-9), scale)
    coordinates = triangles.points[:, :2] * scale * [1, -1] / 2 - 0.5
    return replace(triangles, coordinates=coordinates.astype(np.float32))

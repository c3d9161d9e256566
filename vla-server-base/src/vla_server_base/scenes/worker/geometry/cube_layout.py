"""A cube map on a geom: each triangle shows the face of the cube that it looks at.

MuJoCo's renderer chooses the face for each pixel, so triangles that look at several faces are split.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32

from vla_server_base.scenes.worker.geometry.surface import Columns, Surface, columns
from vla_server_base.scenes.worker.geometry.textures import PlacedTexture
from vla_server_base.scenes.worker.geometry.triangles import Triangles
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import cube_coordinates, cube_faces, unit_points

MAX_SPLITS = 6
"""Each halves the sides of a triangle."""

ENOUGH_TRIANGLES = 500
"""From which on none are split: a ball has as many, and looks right."""

INWARD = 0.01
"""How far from a corner towards the middle to look: corners of a box look at three faces."""


def lay_cube(texture: PlacedTexture, surface: Surface, triangles: Triangles) -> Triangles:
    """Return triangles with coordinates on a cube's image, in which its faces lie one below another."""
    split = _split_between_faces(surface, triangles.unshared())
    directions = _directions(surface, split)
    sides = np.repeat(cube_faces(_middles(directions)), 3)
    # Half a texel inside, where no neighbour in the image shines through.
    inset = np.float32(0.5 / texture.width)
    coordinates = np.clip(cube_coordinates(directions, sides), inset, 1 - inset)
    coordinates[1] = (coordinates[1] + sides % texture.num_images) / texture.num_images
    return replace(split, coordinates=np.ascontiguousarray(coordinates.T, np.float32))


def _directions(surface: Surface, triangles: Triangles) -> Columns:
    points = columns(triangles.points)
    units = unit_points(surface.kind, points, surface.sizes_of(points))
    return units * surface.sizes[:, None] if surface.is_uniform else units


def _middles(directions: Columns) -> Float32[np.ndarray, "axes faces"]:
    return directions.reshape(3, -1, 3).mean(axis=2)


def _split_between_faces(surface: Surface, triangles: Triangles) -> Triangles:
    for _ in range(MAX_SPLITS):
        between = _look_at_several(_directions(surface, triangles))
        if not between.any() or len(between) > ENOUGH_TRIANGLES:
            break
        points, normals = (_quartered(part, between) for part in (triangles.points, triangles.normals))
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.float32(1e-9))
        faces = np.arange(len(points), dtype=np.int32).reshape(-1, 3)
        triangles = Triangles(points=points, normals=normals, faces=faces)
    return triangles


def _look_at_several(directions: Columns) -> Bool[np.ndarray, " faces"]:
    middles = np.repeat(_middles(directions), 3, axis=1)
    sides = cube_faces(directions + np.float32(INWARD) * (middles - directions)).reshape(-1, 3)
    return (sides != sides[:, :1]).any(axis=1)


def _quartered(values: np.ndarray, which: Bool[np.ndarray, " faces"]) -> np.ndarray:
    """Return values at the corners of triangles of which some are cut into four, through the middles of their sides."""
    corners = values.reshape(-1, 3, 3)
    a, b, c = corners[which].transpose(1, 0, 2)
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    quarters = [np.stack(part, axis=1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate([corners[~which], *quarters]).reshape(-1, 3)

"""Surfaces as triangles, and the ways to make them: a grid, a profile that turns about z, several joined."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

Points = Float32[np.ndarray, "vertices 3"]
Faces = Int32[np.ndarray, "faces 3"]

SLICES = 24
"""Columns of what is round about z."""


@dataclass(frozen=True, kw_only=True)
class Triangles:
    """A surface: vertices with their normals, and faces, counter-clockwise from outside.

    `coordinates` are where on a texture the vertices lie, 0 to 1 from the left and from the top; None without one.
    """

    points: Points
    normals: Points
    faces: Faces
    coordinates: Float32[np.ndarray, "vertices 2"] | None = None

    def unshared(self) -> "Triangles":
        """Return the same surface with three vertices for each face, which no other face has."""
        corners = self.faces.reshape(-1)
        return replace(
            self,
            points=self.points[corners],
            normals=self.normals[corners],
            faces=np.arange(len(corners), dtype=np.int32).reshape(-1, 3),
            coordinates=None if self.coordinates is None else self.coordinates[corners],
        )


def grid(points: Float[np.ndarray, "rows columns 3"], normals: Float[np.ndarray, "rows columns 3"]) -> Triangles:
    """Join neighbours of a grid; outside is where columns times rows (cross product) points to."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    low, right, high, left = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.stack([low, right, high, low, high, left], axis=-1).reshape(-1, 3)
    vertices = np.ascontiguousarray(points.reshape(-1, 3), np.float32)
    return Triangles(
        points=vertices,
        normals=np.ascontiguousarray(normals.reshape(-1, 3), np.float32),
        faces=faces[_have_area(vertices, faces)],
    )


def revolved(
    radii: Float[np.ndarray, " profile"],
    heights: Float[np.ndarray, " profile"],
    slopes: Float[np.ndarray, " profile"],
) -> Triangles:
    """Turn a profile about z, from below to above; `slopes` are the angles of its normals over the horizontal [rad]."""
    turns = np.linspace(0, 2 * np.pi, SLICES + 1)
    turns[-1] = 0  # so that the surface closes
    around = np.stack([np.cos(turns), np.sin(turns), np.zeros_like(turns)], axis=-1)
    up = np.array([0.0, 0.0, 1.0])
    points = radii[:, None, None] * around + heights[:, None, None] * up
    normals = np.cos(slopes)[:, None, None] * around + np.sin(slopes)[:, None, None] * up
    return grid(points, normals)


def joined(parts: Sequence[Triangles]) -> Triangles:
    """Return several surfaces without texture coordinates as one."""
    starts = np.cumsum([0, *(len(part.points) for part in parts)])
    faces = [part.faces + np.int32(start) for part, start in zip(parts, starts, strict=False)]
    return Triangles(
        points=np.concatenate([part.points for part in parts]),
        normals=np.concatenate([part.normals for part in parts]),
        faces=np.concatenate(faces),
    )


def _have_area(points: Points, faces: Int[np.ndarray, "faces 3"]) -> np.ndarray:
    """Tell which faces have three different corners; at a pole two coincide."""
    a, b, c = points[faces].transpose(1, 0, 2)
    return (a != b).any(axis=1) & (b != c).any(axis=1) & (c != a).any(axis=1)

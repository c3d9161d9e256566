"""MuJoCo's shapes without files: the unit sphere, cylinder, box and plane, which nodes scale, and capsules."""

import numpy as np

from vla_server_base.scenes.worker.geometry.triangles import Triangles, grid, joined, revolved

STACKS = 12
"""Rows of a ball from pole to pole; a multiple of two, so that half a ball has whole ones."""

QUARTER = np.pi / 2


def sphere() -> Triangles:
    """Return a ball of radius 1; MuJoCo's ellipsoids are scaled ones."""
    slopes = np.linspace(-QUARTER, QUARTER, STACKS + 1)
    return revolved(_radii(slopes), np.sin(slopes), slopes)


def capsule(radius: float, half_length: float) -> Triangles:
    """Return a cylinder along z of half a length, with half a ball on each end."""
    below, above = np.linspace(-QUARTER, 0, STACKS // 2 + 1), np.linspace(0, QUARTER, STACKS // 2 + 1)
    slopes = np.concatenate([below, above])
    heights = radius * np.sin(slopes) + np.where(np.arange(len(slopes)) < len(below), -half_length, half_length)
    return revolved(radius * _radii(slopes), heights, slopes)


def cylinder() -> Triangles:
    """Return a cylinder along z of radius 1, from -1 to 1."""
    low, high, level = np.full(2, -1.0), np.full(2, 1.0), np.zeros(2)
    out, inward = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    side = revolved(high, np.array([-1.0, 1.0]), level)
    return joined([revolved(out, low, level - QUARTER), side, revolved(inward, high, level + QUARTER)])


def box() -> Triangles:
    """Return the cube from -1 to 1."""
    return joined([_side(axis, sign) for axis in range(3) for sign in (1, -1)])


def plane() -> Triangles:
    """Return the square from -1 to 1 that faces z."""
    return quad(np.array([[[-1, -1, 0], [1, -1, 0]], [[-1, 1, 0], [1, 1, 0]]]))


def quad(corners: np.ndarray) -> Triangles:
    """Return a flat face of two rows of two corners each."""
    normal = np.cross(corners[0, 1] - corners[0, 0], corners[1, 0] - corners[0, 0]).astype(float)
    return grid(corners.astype(float), np.broadcast_to(normal / np.linalg.norm(normal), corners.shape))


def _side(axis: int, sign: int) -> Triangles:
    """Return the side of the cube that faces along an axis, or against it."""
    across, up = (axis + 1) % 3, (axis + 2) % 3
    corners = np.zeros((2, 2, 3))
    corners[..., axis] = sign
    corners[..., across] = [[-sign, sign], [-sign, sign]]
    corners[..., up] = [[-1, -1], [1, 1]]
    return quad(corners)


def _radii(slopes: np.ndarray) -> np.ndarray:
    """Return the radii of a ball's rows, exactly 0 at the poles."""
    return np.where(np.abs(slopes) < QUARTER, np.cos(slopes), 0)

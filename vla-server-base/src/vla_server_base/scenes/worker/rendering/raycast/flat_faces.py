"""Planes and boxes as OpenGL has them: a grid of quads, lit at their corners, blended in between.

A lamp's cone on a floor looks much wider like that than it is. Round things and meshes have corners enough to look
as if every pixel were lit.
"""

import itertools
from typing import final

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from vla_server_base.scenes.worker.rendering.raycast.facets import Corner, Facets, find_runs, to_world
from vla_server_base.scenes.worker.rendering.raycast.spots import geom_positions, geom_turns
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import BOX, PLANE

MAX_PLANE_GRID = 200
"""Quads along each side of an endless plane: `mjMAXPLANEGRID`."""

TINY = np.float32(1e-9)

Vector = Float[np.ndarray, " xyz"]
Points = Float32[np.ndarray, "xyz points"]
Numbers = Float32[np.ndarray, " points"]
Geoms = Int[np.ndarray, " points"]


@final
class FlatFaces:
    """The grids of a model's planes and boxes.

    Along each axis there are quads of one width between two narrower ones at the edges.
    """

    def __init__(self, model: mujoco.MjModel):
        self._model = model
        self.is_flat: Bool[np.ndarray, " geoms"] = (model.geom_type == PLANE) | (model.geom_type == BOX)
        self._is_box: Bool[np.ndarray, " geoms"] = model.geom_type == BOX
        self._per_size = (1 / np.maximum(model.geom_size.T, mujoco.mjMINVAL)).astype(np.float32)
        self._length = 2 * model.geom_size.T
        self._width = np.maximum(self._length / max(model.vis.quality.numquads, 1), mujoco.mjMINVAL)
        self._edge = self._width.copy()
        self._following: list[tuple[int, int, float]] = []
        for plane, axis in itertools.product(np.flatnonzero(model.geom_type == PLANE).tolist(), (0, 1)):
            length, edge, width = self._along_plane(plane, axis)
            self._length[axis, plane], self._edge[axis, plane], self._width[axis, plane] = length, edge, width
            if model.geom_size[plane, axis] <= 0:
                self._following.append((plane, axis, self._step(plane, axis)))
        self._low = -self._length / 2

    def facets(self, data: mujoco.MjData, eye: Vector, geoms: Geoms, points: Points) -> Facets:
        """Return the quads that points in the frames of planes and boxes lie in, seen from `eye`."""
        is_box = self._is_box[geoms]
        facing = np.where(is_box, np.argmax(np.abs(points) * self._per_size.take(geoms, axis=1), axis=0), 2)
        first, second = np.where(facing == 0, 1, 0), np.where(facing == 2, 1, 2)
        low = self._beginnings(data, eye)
        (u, u0, u1), (v, v0, v1) = (self._cells(points, low, geoms, axes) for axes in (first, second))
        outward = ~is_box | (points[facing, np.arange(len(facing))] > 0)
        runs, firsts = find_runs(geoms, facing, outward, u0, v0)
        # MuJoCo starts its quads of these faces at another corner, from which OpenGL cuts them the other way.
        other_way = is_box & (outward == (facing == 1))
        weights = _weights((u - u0) / (u1 - u0), (v - v0) / (v1 - v0), other_way)
        turns, positions = geom_turns(data, geoms[firsts]), geom_positions(data, geoms[firsts])
        normals = np.zeros((3, len(firsts)), np.float32)
        _put(normals, facing[firsts], np.where(outward[firsts], 1, -1))
        corners = []
        for (at_u, at_v), weight in zip(((u0, v0), (u1, v0), (u0, v1), (u1, v1)), weights, strict=True):
            corner = points.take(firsts, axis=1)
            _put(corner, first[firsts], at_u[firsts])
            _put(corner, second[firsts], at_v[firsts])
            corners.append(
                Corner(points=positions + to_world(turns, corner), normals=to_world(turns, normals), weights=weight)
            )
        return Facets(runs=runs, firsts=firsts, corners=corners)

    def _along_plane(self, plane: int, axis: int) -> tuple[float, float, float]:
        """Follow `makePlane` of MuJoCo's render_context.c: a plane's length, the outer quads' width, the others'."""
        half, spacing = self._model.geom_size[plane, [axis, 2]].tolist()
        if half > 0:
            spacing = max(spacing, half / (MAX_PLANE_GRID - 2), mujoco.mjMINVAL)
            return 2 * half, half - int(half / spacing) // 2 * 2 * spacing, 2 * spacing
        far = self._model.vis.map.zfar * self._model.stat.extent
        width = float(2.1 * far + self._step(plane, axis)) / MAX_PLANE_GRID
        return width * MAX_PLANE_GRID, width, width

    def _step(self, plane: int, axis: int) -> float:
        """Return in what steps an endless plane follows the camera: `addGeomGeoms` of engine_vis_visualize.c."""
        material = self._model.geom_matid[plane]
        if material >= 0 and self._model.mat_texrepeat[material, axis] > 0:
            return 4 / float(self._model.mat_texrepeat[material, axis])
        return 4.2 * self._model.vis.map.zfar * self._model.stat.extent / (MAX_PLANE_GRID - 2)

    def _beginnings(self, data: mujoco.MjData, eye: Vector) -> Float64[np.ndarray, "xyz geoms"]:
        """Return where the grids begin along each axis, in their geoms' frames."""
        low = self._low.copy()
        for plane, axis, step in self._following:
            away = (eye - data.geom_xpos[plane]) @ data.geom_xmat[plane].reshape(3, 3)[:, axis]
            low[axis, plane] += step * np.floor(away / step + 0.5)
        return low

    def _cells(
        self, points: Points, low: Float64[np.ndarray, "xyz geoms"], geoms: Geoms, axes: Int[np.ndarray, " points"]
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Return points' coordinates along an axis each, and between which lines of the grid they lie."""
        place = points[axes, np.arange(len(axes))]
        start, edge, width, high = (
            part[axes, geoms].astype(np.float32) for part in (low, self._edge, self._width, low + self._length)
        )
        inner = start + edge + width * np.floor((place - start - edge) / width)
        before = np.where(place < start + edge, start, np.minimum(inner, high - edge))
        after = np.where(place < start + edge, start + edge, np.minimum(inner + width, high))
        after = np.where(place > high - edge, high, np.minimum(after, high))
        return place, before, np.maximum(after, before + TINY)


def _put(points: Points, axes: Int[np.ndarray, " points"], values: np.ndarray) -> None:
    """Set one coordinate of each point."""
    points[axes, np.arange(len(axes))] = values


def _weights(
    along: Numbers, up: Numbers, other_way: Bool[np.ndarray, " points"]
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Weigh corners at (0, 0), (1, 0), (0, 1), (1, 1) of squares cut from (1, 0) to (0, 1), or the other way."""
    along = np.where(other_way, 1 - along, along)
    beyond = along + up - 1
    right, above = np.where(beyond > 0, 1 - up, along), np.where(beyond > 0, 1 - along, up)
    near, far = np.maximum(-beyond, 0), np.maximum(beyond, 0)
    return (
        np.where(other_way, right, near),
        np.where(other_way, near, right),
        np.where(other_way, far, above),
        np.where(other_way, above, far),
    )

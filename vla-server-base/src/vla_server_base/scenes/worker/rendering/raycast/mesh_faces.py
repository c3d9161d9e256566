"""Which face of a mesh a point lies on, and what its corners have: normals, texture coordinates."""

from dataclasses import dataclass
from typing import final

import mujoco
import numpy as np
from jaxtyping import Float32, Int

from vla_server_base.scenes.worker.rendering.raycast.facets import Corner, Facets, find_runs, to_world
from vla_server_base.scenes.worker.rendering.raycast.spots import geom_positions, geom_turns

MAX_PAIRS = 2**19
"""Of a point and a box that may hold its face: what is beyond, in a mesh whose faces all overlap, is not looked at."""
ROUNDING = 1e-5
"""How far a point may be from its face, as a part of the mesh's size."""
SHARP = 0.8
"""Cosine of an edge's angle beyond which faces' own normals are used."""

Points = Float32[np.ndarray, "xyz points"]
Corners = Float32[np.ndarray, "corners xyz points"]
Weights = Float32[np.ndarray, "corners points"]
Faces = Int[np.ndarray, " points"]


@dataclass(frozen=True, kw_only=True)
class FaceSpots:
    """Points on faces: rows of a model's `mesh_face`, and the meshes they are of."""

    meshes: Int[np.ndarray, " points"]
    faces: Faces

    def take(self, which: Int[np.ndarray, " some"]) -> "FaceSpots":
        """Return some of them."""
        return FaceSpots(meshes=self.meshes[which], faces=self.faces[which])


@final
class FaceFinder:
    """Finds the faces of a model's meshes, by the boxes in boxes that MuJoCo keeps of each mesh."""

    def __init__(self, model: mujoco.MjModel):
        self._model = model
        # One row for each component: five times as fast as one row for each box.
        centres, halves = np.split(np.ascontiguousarray(model.bvh_aabb.T, np.float32), 2)
        self._halves = halves
        self._low, self._high = centres - halves, centres + halves
        self._children = np.ascontiguousarray(model.bvh_child.T)

    def find(self, meshes: Int[np.ndarray, " points"], points: Points) -> Faces:
        """Return the face that each point in its mesh's frame is on, or -1.

        Goes down the boxes with all points at once.
        """
        roots = self._model.mesh_bvhadr[meshes]
        slack = np.float32(ROUNDING) * self._halves.take(roots, axis=1).max(axis=0, initial=0)
        faces, nearest = np.full(points.shape[1], -1), np.full(points.shape[1], np.inf)
        of, boxes = np.arange(points.shape[1]), roots
        while len(of):
            for axis in range(3):
                place, room = points[axis].take(of), slack.take(of)
                inside = place >= self._low[axis].take(boxes) - room
                inside &= place <= self._high[axis].take(boxes) + room
                of, boxes = of[inside], boxes[inside]
            box_faces = self._model.bvh_nodeid[boxes]
            leaves = np.flatnonzero(box_faces >= 0)
            _keep_nearest(self._model, meshes, points, of[leaves], box_faces[leaves], faces, nearest)
            children = self._children.take(boxes, axis=1).reshape(-1)
            inner = np.flatnonzero(children >= 0)[:MAX_PAIRS]
            of = np.concatenate([of, of])[inner]
            boxes = roots[of] + children[inner]
        return faces


def corner_weights(model: mujoco.MjModel, spots: FaceSpots, points: Points) -> Weights:
    """Return how much each corner of its face counts at a point; beyond the face too."""
    return _weights(_corners(model, spots), points)[0]


def texture_coordinates(model: mujoco.MjModel, spots: FaceSpots, weights: Weights) -> Float32[np.ndarray, "uv points"]:
    """Return where on a texture points are; their meshes must have texture coordinates."""
    corners = model.mesh_facetexcoord[spots.faces] + model.mesh_texcoordadr[spots.meshes][:, None]
    return np.einsum("pcu,cp->up", model.mesh_texcoord[corners], weights)


def mesh_facets(
    model: mujoco.MjModel, data: mujoco.MjData, geoms: Int[np.ndarray, " points"], faces: Faces, points: Points
) -> Facets:
    """Return the faces of meshes that points in the meshes' frames lie on."""
    on_faces = FaceSpots(meshes=model.geom_dataid[geoms], faces=faces)
    weights = corner_weights(model, on_faces, points)
    runs, firsts = find_runs(geoms, faces)
    turns = geom_turns(data, geoms[firsts])
    positions = geom_positions(data, geoms[firsts])
    points, normals = (_corners(model, on_faces.take(firsts)), _normals(model, on_faces.take(firsts)))
    corners = [
        Corner(points=positions + to_world(turns, point), normals=to_world(turns, normal), weights=weight)
        for point, normal, weight in zip(points, normals, weights, strict=True)
    ]
    return Facets(runs=runs, firsts=firsts, corners=corners)


def _normals(model: mujoco.MjModel, spots: FaceSpots) -> Corners:
    """Follow `mjr_uploadMesh` of MuJoCo's render_context.c."""
    rows = model.mesh_facenormal[spots.faces] + model.mesh_normaladr[spots.meshes][:, None]
    normals = model.mesh_normal[rows].transpose(1, 2, 0)
    a, b, c = _corners(model, spots)
    flat = _cross(b - a, c - a)
    flat /= np.maximum(np.sqrt((flat**2).sum(axis=0)), np.float32(1e-30))
    sharp = ((normals * flat).sum(axis=1) < SHARP) & (model.mesh_texcoordadr[spots.meshes] < 0)
    return np.where(sharp[:, None], flat, normals)


def _keep_nearest(
    model: mujoco.MjModel,
    meshes: Int[np.ndarray, " points"],
    points: Points,
    of: Int[np.ndarray, " pairs"],
    faces_of_mesh: Int[np.ndarray, " pairs"],
    faces: Faces,
    nearest: np.ndarray,
) -> None:
    """Have the points `of` lie on the faces given, where they are nearer to those than to what they had."""
    candidates = FaceSpots(meshes=meshes[of], faces=model.mesh_faceadr[meshes[of]] + faces_of_mesh)
    weights, away, side = _weights(_corners(model, candidates), points[:, of])
    distance = np.abs(away) + side * np.maximum(-weights.min(axis=0), 0)
    # Of what is assigned to one place, the last one stays.
    pairs = np.argsort(-distance, kind="stable")
    pairs = pairs[distance[pairs] < nearest[of[pairs]]]
    faces[of[pairs]], nearest[of[pairs]] = candidates.faces[pairs], distance[pairs]


def _corners(model: mujoco.MjModel, spots: FaceSpots) -> Corners:
    vertices = model.mesh_face[spots.faces] + model.mesh_vertadr[spots.meshes][:, None]
    return model.mesh_vert[vertices].transpose(1, 2, 0)


def _weights(
    corners: Corners, points: Points
) -> tuple[Weights, Float32[np.ndarray, " points"], Float32[np.ndarray, " points"]]:
    """Return the corners' weights, the distance from the face's plane, and the length of a typical side."""
    a, b, c = corners
    to_b, to_c, to_point = b - a, c - a, points - a
    normal = _cross(to_b, to_c)
    squared = np.maximum((normal**2).sum(axis=0), np.float32(1e-30))
    of_b = (_cross(to_point, to_c) * normal).sum(axis=0) / squared
    of_c = (_cross(to_b, to_point) * normal).sum(axis=0) / squared
    away = (to_point * normal).sum(axis=0) / np.sqrt(squared)
    return np.stack([1 - of_b - of_c, of_b, of_c]), away, np.sqrt(np.sqrt(squared))


def _cross(a: Points, b: Points) -> Points:
    """Multiply column by column: a third of the time of np.cross."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])

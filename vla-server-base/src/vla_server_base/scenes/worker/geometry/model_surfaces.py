"""The surfaces that a model brings: meshes and height fields."""

import mujoco
import numpy as np

from vla_server_base.scenes.worker.geometry.primitives import quad
from vla_server_base.scenes.worker.geometry.triangles import Points, Triangles, grid, joined
from vla_server_base.scenes.worker.rendering.raycast.mesh_faces import SHARP


def mesh(model: mujoco.MjModel, mesh_id: int) -> Triangles:
    """Return a mesh with the normals that `mjr_uploadMesh` of MuJoCo's render_context.c gives it."""
    rows = slice(model.mesh_faceadr[mesh_id], model.mesh_faceadr[mesh_id] + model.mesh_facenum[mesh_id])
    points = _part(model.mesh_vert, model.mesh_vertadr, model.mesh_vertnum, mesh_id)
    normals = _part(model.mesh_normal, model.mesh_normaladr, model.mesh_normalnum, mesh_id)
    vertices, shading = model.mesh_face[rows].reshape(-1), model.mesh_facenormal[rows].reshape(-1)
    if model.mesh_texcoordadr[mesh_id] >= 0:
        texture = model.mesh_facetexcoord[rows].reshape(-1)
        coordinates = _part(model.mesh_texcoord, model.mesh_texcoordadr, model.mesh_texcoordnum, mesh_id)
        (vertices, shading, texture), faces = _distinct(vertices, shading, texture)
        return Triangles(
            points=points[vertices], normals=normals[shading], faces=faces, coordinates=coordinates[texture]
        )
    flat = np.repeat(_face_normals(points, model.mesh_face[rows]), 3, axis=0)
    is_sharp = (normals[shading] * flat).sum(axis=1) < SHARP
    # A corner of a sharp edge has the normal of its face, which comes after those of the mesh.
    shading = np.where(is_sharp, len(normals) + np.arange(len(flat)) // 3, shading)
    (vertices, shading), faces = _distinct(vertices, shading)
    return Triangles(points=points[vertices], normals=np.concatenate([normals, flat[::3]])[shading], faces=faces)


def height_field(model: mujoco.MjModel, hfield_id: int) -> Triangles:
    """Return a height field: its surface, four sides and the bottom."""
    rows, columns = int(model.hfield_nrow[hfield_id]), int(model.hfield_ncol[hfield_id])
    half_x, half_y, height, base = model.hfield_size[hfield_id].tolist()
    start = model.hfield_adr[hfield_id]
    heights = height * model.hfield_data[start : start + rows * columns].reshape(rows, columns)
    x, y = np.meshgrid(np.linspace(-half_x, half_x, columns), np.linspace(-half_y, half_y, rows))
    top = np.stack([x, y, heights], axis=-1)
    slope_y, slope_x = np.gradient(heights, 2 * half_y / (rows - 1), 2 * half_x / (columns - 1))
    normals = np.stack([-slope_x, -slope_y, np.ones_like(heights)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    borders = [(top[0], (0, -1)), (top[:, -1], (1, 0)), (top[-1, ::-1], (0, 1)), (top[::-1, 0], (-1, 0))]
    bottom = np.array([[[half_x, -half_y], [-half_x, -half_y]], [[half_x, half_y], [-half_x, half_y]]])
    bottom = np.concatenate([bottom, np.full((2, 2, 1), -base)], axis=-1)
    return joined([grid(top, normals), *(_wall(border, base, side) for border, side in borders), quad(bottom)])


def _wall(border: np.ndarray, base: float, side: tuple[int, int]) -> Triangles:
    """Return the wall under one border of a height field; seen from `side`, the border goes to the right."""
    foot = border.copy()
    foot[:, 2] = -base
    return grid(np.stack([foot, border]), np.broadcast_to([*side, 0.0], (2, len(border), 3)))


def _part(values: np.ndarray, starts: np.ndarray, numbers: np.ndarray, mesh_id: int) -> np.ndarray:
    """Return the rows of a mesh."""
    return values[starts[mesh_id] : starts[mesh_id] + numbers[mesh_id]].astype(np.float32)


def _face_normals(points: Points, faces: np.ndarray) -> Points:
    a, b, c = points[faces].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.float32(1e-30))


def _distinct(*parts: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the distinct corners of faces, each part of them, and the faces' rows of these."""
    keys = np.zeros(len(parts[0]), np.int64)
    for part in parts:
        keys = keys * (int(part.max(initial=0)) + 1) + part
    _, firsts, corners = np.unique(keys, return_index=True, return_inverse=True)
    return [part[firsts] for part in parts], corners.reshape(-1, 3).astype(np.int32)

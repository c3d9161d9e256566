"""Where on a texture each point of a geom lies, as MuJoCo's renderer (since 3.12) lays textures on geoms.

Follows the display lists of MuJoCo's `render_context.c` and `settexture` of its `render_gl3.c`. Points are in a geom's
own frame. "Unit" points are those of MuJoCo's display lists: a box is the cube from -1 to 1, a ball has radius 1.
"""

import mujoco
import numpy as np
from jaxtyping import Float32, Int

Points = Float32[np.ndarray, "xyz points"]
Coordinates = Float32[np.ndarray, "uv points"]

PLANE, HFIELD, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH, SDF = (
    int(kind)
    for kind in (
        mujoco.mjtGeom.mjGEOM_PLANE,
        mujoco.mjtGeom.mjGEOM_HFIELD,
        mujoco.mjtGeom.mjGEOM_SPHERE,
        mujoco.mjtGeom.mjGEOM_CAPSULE,
        mujoco.mjtGeom.mjGEOM_ELLIPSOID,
        mujoco.mjtGeom.mjGEOM_CYLINDER,
        mujoco.mjtGeom.mjGEOM_BOX,
        mujoco.mjtGeom.mjGEOM_MESH,
        mujoco.mjtGeom.mjGEOM_SDF,
    )
)
FULL_TURN = np.float32(2 * np.pi)


def drawn_sizes(types: np.ndarray, sizes: np.ndarray) -> Float32[np.ndarray, "xyz geoms"]:
    """Return half sizes along each axis, as MuJoCo's display lists are scaled by them (`mjv_initGeom`)."""
    drawn = sizes.T.astype(np.float32)
    round_ones = (types == SPHERE) | (types == CAPSULE) | (types == CYLINDER)
    drawn[2] = np.where((types == CAPSULE) | (types == CYLINDER), drawn[1], drawn[2])
    drawn[1] = np.where(round_ones, drawn[0], drawn[1])
    drawn[2] = np.where(types == SPHERE, drawn[0], drawn[2])
    return drawn


def unit_points(kind: int, points: Points, sizes: Points) -> Points:
    """Return points of geoms of one type as they are in MuJoCo's display lists."""
    if kind in (SPHERE, ELLIPSOID, CYLINDER, BOX):
        return points / sizes
    if kind != CAPSULE:
        return points
    unit = points / sizes
    # A cap is half a ball around 1 or -1.
    beyond = (np.abs(points[2]) - sizes[2]) / sizes[0]
    unit[2] = np.where(beyond > 0, np.sign(points[2]) * (1 + beyond), unit[2])
    return unit


def surface_coordinates(kind: int, points: Points, sizes: Points, faces: Int[np.ndarray, " points"]) -> Coordinates:
    """Return 0 to 1 over the surface of a geom; `faces` come from `surface_faces`."""
    if kind == PLANE:
        # An infinite side counts from its middle.
        u, v = (
            np.where(size > 0, (along / np.where(size > 0, size, 1) + 1) / 2, along / 2)
            for along, size in zip(points[:2], sizes[:2], strict=True)
        )
        return np.stack([u, np.where(sizes[1] > 0, 1 - v, -v)])
    if kind == BOX:
        x, y, z = points / sizes
        across, up = np.where(faces == 0, y, x), np.where(faces == 2, y, z)
        return np.stack([(1 + across) / 2, (1 - up) / 2])
    if kind == CYLINDER:
        x, y, z = points / sizes
        round_side = faces == 0
        return np.stack(
            [np.where(round_side, _azimuth(x, y), (1 + x) / 2), np.where(round_side, (1 - z) / 2, (1 + y) / 2)]
        )
    if kind == CAPSULE:
        beyond = (np.abs(points[2]) - sizes[2]) / sizes[0]
        rise = np.arcsin(np.clip(beyond, 0, 1)) / (FULL_TURN / 4)
        v = np.where(faces == 0, (1 - points[2] / sizes[2]) / 2, np.where(points[2] > 0, 1 - rise, rise))
        return np.stack([_azimuth(points[0], points[1]), v])
    x, y, z = points / sizes
    return np.stack([_azimuth(x, y), np.float32(0.5) - np.arctan2(z, np.hypot(x, y)) / (FULL_TURN / 2)])


def surface_faces(kind: int, points: Points, sizes: Points) -> Int[np.ndarray, " points"]:
    """Number the parts of a geom's surface with separate coordinates; of a box, by the axis they face."""
    if kind == BOX:
        return np.argmax(np.abs(points / sizes), axis=0)
    if kind == CYLINDER:
        x, y, z = points / sizes
        return (np.abs(z) > np.hypot(x, y)).astype(int)
    if kind == CAPSULE:
        return (np.abs(points[2]) > sizes[2]).astype(int)
    return np.zeros(points.shape[1], int)


def cube_faces(directions: Points) -> Int[np.ndarray, " points"]:
    """Number the faces of a cube map that lie in some directions: +x -x +y -y +z -z."""
    axis = np.argmax(np.abs(directions), axis=0)
    return 2 * axis + (np.take_along_axis(directions, axis[None], axis=0)[0] <= 0)


def cube_coordinates(directions: Points, faces: Int[np.ndarray, " points"]) -> Coordinates:
    """Return 0 to 1 over a face: table 3.20 of OpenGL 1.5."""
    x, y, z = directions
    axis, negative = np.divmod(faces, 2)
    sign = 1 - 2 * negative.astype(np.float32)
    major = np.choose(axis, [x, y, z]) * sign
    across = np.choose(axis, [-z * sign, x, x * sign])
    down = np.choose(axis, [-y, z * sign, -y])
    half = np.float32(0.5) / np.where(np.abs(major) > 1e-9, major, np.float32(1e-9))
    return np.stack([np.float32(0.5) + across * half, np.float32(0.5) + down * half])


def _azimuth(x: Float32[np.ndarray, " points"], y: Float32[np.ndarray, " points"]) -> Float32[np.ndarray, " points"]:
    """Return the part of a turn about z, in 0 to 1."""
    turned = np.arctan2(y, x) / FULL_TURN
    return np.where(turned < 0, turned + 1, turned)

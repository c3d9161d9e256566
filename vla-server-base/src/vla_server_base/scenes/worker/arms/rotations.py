"""Quaternions (w x y z) and rotation vectors [rad], by MuJoCo's own functions."""

import mujoco
import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " 3"]
Quaternion = Float[np.ndarray, " 4"]


def quaternion_from_matrix(matrix: Float[np.ndarray, "3 3"]) -> Quaternion:
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, matrix.ravel())
    return quaternion


def quaternion_from_rpy(rpy: Vector) -> Quaternion:
    """Turn by roll, pitch, yaw about the fixed axes x, y, z, in this order."""
    quaternion = np.empty(4)
    mujoco.mju_euler2Quat(quaternion, rpy, "XYZ")
    return quaternion


def quaternion_from_vector(vector: Vector) -> Quaternion:
    """Turn about a vector by its length."""
    quaternion, angle = np.array([1.0, 0.0, 0.0, 0.0]), float(np.linalg.norm(vector))
    if angle > 0:
        mujoco.mju_axisAngle2Quat(quaternion, vector / angle, angle)
    return quaternion


def product(left: Quaternion, right: Quaternion) -> Quaternion:
    quaternion = np.empty(4)
    mujoco.mju_mulQuat(quaternion, left, right)
    return quaternion


def rotate(vector: Vector, quaternion: Quaternion) -> Vector:
    rotated = np.empty(3)
    mujoco.mju_rotVecQuat(rotated, vector, quaternion)
    return rotated


def rotation_between(start: Quaternion, end: Quaternion) -> Vector:
    """Return the rotation vector, of length at most pi, that turns `start` into `end` from the left."""
    difference, vector = product(end, start * (1, -1, -1, -1)), np.empty(3)
    mujoco.mju_quat2Vel(vector, difference, 1.0)
    return vector


def shortened(vector: Vector, length: float) -> Vector:
    """Cut a vector to a length, along its direction."""
    norm = float(np.linalg.norm(vector))
    return vector if norm <= length else vector * (length / norm)

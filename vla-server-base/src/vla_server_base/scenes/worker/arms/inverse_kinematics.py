"""Joint positions for a pose of the end effector, near those that the arm has."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_server_base.scenes.worker.arms.rotations import Quaternion, Vector, rotation_between

METRES_PER_RADIAN = 0.25
"""How much a rotation weighs beside a translation: about the length of a forearm."""

MAX_ITERATIONS = 20
SETTLED = 1e-6
"""The search ends when no joint moves further than this in an iteration [rad or m]."""

PULLING_ITERATIONS = 5
"""Only the first feel the pull to a rest pose: at a joint's limit it can keep a search from settling."""

LEAST_DAMPING = 1e-8
POSITION_TOLERANCE_M = 1e-3
ROTATION_TOLERANCE_RAD = 1e-2

Joints = Float[np.ndarray, " joints"]


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Where the joints should go, how far off the pose then is [m], and whether that is within tolerance.

    `wanted` is where each joint would go next if it had no limit.
    """

    joints: Joints
    error: float
    reached: bool
    wanted: Joints


def solve(
    linearized: Callable[[Joints], tuple[Vector, Quaternion, Float[np.ndarray, "6 joints"]]],
    start: Joints,
    position: Vector,
    quaternion: Quaternion,
    limits: Float[np.ndarray, "joints 2"],
    rest: Joints,
) -> Solution:
    """Bring the end effector to a pose, or as near as `limits` allow, by damped least squares.

    The damping is the squared error (Sugihara, "Solvability-Unconcerned Inverse Kinematics by the
    Levenberg-Marquardt Method", T-RO 27(5), 2011): it keeps steps short near singular poses and vanishes at
    the goal. What freedom the pose leaves pulls the joints to `rest`. `start` lies within `limits`, and so
    do all joints on the way.
    """
    joints, tried = start, []
    for iteration in range(MAX_ITERATIONS):
        at, turned, jacobian = linearized(joints)
        offset, turn = position - at, rotation_between(turned, quaternion)
        error = weighted(offset, turn)
        jacobian[3:] *= METRES_PER_RADIAN
        pull = (rest - joints) * (iteration < PULLING_ITERATIONS)
        step, free_step = _bounded_step(jacobian, error, pull, limits - joints[:, None])
        reached = np.linalg.norm(offset) < POSITION_TOLERANCE_M and np.linalg.norm(turn) < ROTATION_TOLERANCE_RAD
        tried.append(
            Solution(
                joints=joints, error=float(np.linalg.norm(error)), reached=bool(reached), wanted=joints + free_step
            )
        )
        if np.abs(step).max() < SETTLED:
            break
        joints = np.clip(joints + step, *limits.T)
    return tried[-1] if tried[-1].reached else min(tried, key=lambda solution: solution.error)


def weighted(offset: Vector, turn: Vector) -> Float[np.ndarray, " 6"]:
    """Join a translation [m] and a rotation [rad] to one error [m]."""
    return np.concatenate([offset, METRES_PER_RADIAN * turn])


def _bounded_step(
    jacobian: Float[np.ndarray, "6 joints"],
    error: Float[np.ndarray, " 6"],
    pull: Joints,
    bounds: Float[np.ndarray, "joints 2"],
) -> tuple[Joints, Joints]:
    """Return the step to the goal within bounds, and the step that it would be without them.

    A joint that would pass its bound goes there and no further; the others are solved for again.
    """
    damping = LEAST_DAMPING + float(error @ error)
    free = np.ones(len(pull), bool)
    free_step = step = _step(jacobian, error, damping, pull)
    while (beyond := free & ((step < bounds[:, 0]) | (step > bounds[:, 1]))).any():
        free &= ~beyond
        fixed = np.where(free, 0.0, np.clip(step, *bounds.T))
        step = fixed + _step(jacobian * free, error - jacobian @ fixed, damping, pull * free)
    return step, free_step


def _step(
    jacobian: Float[np.ndarray, "6 joints"], error: Float[np.ndarray, " 6"], damping: float, pull: Joints
) -> Joints:
    """Return the damped step to the goal, and along `pull` as far as the goal allows."""
    system = jacobian @ jacobian.T + damping * np.eye(6)
    return pull + jacobian.T @ np.linalg.solve(system, error - jacobian @ pull)

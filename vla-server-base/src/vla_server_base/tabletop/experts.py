"""Scripted experts: the next action of each task, as a function of the current state only.

An expert has no memory. Its action follows from the poses: whether the pads hold the object, how far the gripper is
from its goal, how high. So it can continue from any state, also after a disturbance or another policy's actions.
"""

import numpy as np
from jaxtyping import Float

from vla_server_base.tabletop.tables import ObjectPose, Table, TableState
from vla_server_base.tabletop.tasks import NEXT_TO, TabletopTask

STRIDE_M, TURN_RAD = 0.04, 0.25
"""The longest motion and the largest turn of one action."""

GAIN = 0.5
"""The share of the remaining distance that one action moves; the arm lags by half an action, so 1 would overshoot."""

HOVER_M = 0.10
WIDE, NARROW = (2.0, 0.008), (4.0, 0.008)
"""Funnels: height above the goal per metre to the side, beyond a radius [m]; the narrow one is for neighbours."""

GAP = 0.6
"""The gap between objects put next to each other, in half sizes; in the middle of what `NEXT_TO` allows."""

LIFT_TO_M = 0.2
PUSH_HEIGHT_M, PUSH_STRIDE_M, PUSH_FROM_M = 0.013, 0.03, 0.08
AIMED_M = 0.008

STILL = np.zeros(3)
OPEN, CLOSED = 1.0, 0.0

Vector = Float[np.ndarray, " 3"]


def expert_action(state: TableState, task: TabletopTask) -> Float[np.ndarray, " 7"]:
    """Return the next action: dx, dy, dz [m], droll, dpitch, dyaw [rad], gripper (1 open, 0 closed).

    Motions are at most `STRIDE_M` and `TURN_RAD`. After the task is done, the expert continues: it lifts on to a
    height, pushes on, or stays above the object that it put down.
    """
    motion, gripper = _move(state, task)
    return np.array([*shortened(motion, STRIDE_M), *_turn_upright(state), gripper])


def shortened(vector: Vector, length: float) -> Vector:
    """Limit the length of a vector, keeping its direction."""
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-9))


def _move(state: TableState, task: TabletopTask) -> tuple[Vector, float]:
    """Return the motion before it is limited, and the gripper."""
    pose = state.objects[task.object]
    if task.verb == "pick_up":
        return _lift(state) if _holds(state, pose) else _grasp(state, task.object)
    if task.target is None:
        return _push(state, pose, task.direction[1])
    target = state.objects[task.target]
    goal = _goal_on(state, target) if task.verb == "put_on" else _goal_next_to(state, task, target)
    is_placed = _is_on(state, pose, target) if task.verb == "put_on" else _is_next_to(state, pose, target)
    if is_placed:
        return _let_go(state, pose)
    if _holds(state, pose):
        funnel = WIDE if task.verb == "put_on" else NARROW
        return _approach(pose.position, goal, funnel), CLOSED
    return _grasp(state, task.object)


def _holds(state: TableState, pose: ObjectPose) -> bool:
    """Say whether the pads hold the object."""
    half = state.table.half_size
    offset = np.abs(pose.position - state.position)
    is_between = float(np.hypot(*offset[:2])) < 0.8 * half and offset[2] < 0.5 * half
    return bool(is_between and 1.4 * half < state.gap < _nearly_open(state.table))


def _nearly_open(table: Table) -> float:
    return table.open_gap - 0.006


def _lift(state: TableState) -> tuple[Vector, float]:
    return np.array([0, 0, GAIN * (LIFT_TO_M - state.position[2])]), CLOSED


def _grasp(state: TableState, name: str) -> tuple[Vector, float]:
    """Descend onto the object and close; the fingers align a rotated cube."""
    goal = state.objects[name].position
    misses = np.abs(goal - state.position)
    is_open = state.gap >= _nearly_open(state.table)
    if is_open and float(np.hypot(*misses[:2])) < AIMED_M and misses[2] < AIMED_M:
        return STILL, CLOSED
    return _approach(state.position, goal, WIDE, 0.0 if is_open else HOVER_M), OPEN


def _let_go(state: TableState, pose: ObjectPose) -> tuple[Vector, float]:
    """Open, then move up."""
    if state.gap < 2 * state.table.half_size + 0.008:
        return STILL, OPEN
    return np.array([0, 0, GAIN * (pose.position[2] + HOVER_M - state.position[2])]), OPEN


def _approach(start: Vector, goal: Vector, funnel: tuple[float, float], raised: float = 0.0) -> Vector:
    """Move from `start` to `goal` as through a `funnel`: sideways high above the table, then down onto the goal.

    `raised` is added to the height of the funnel.
    """
    missing = goal - start
    aside = float(np.hypot(*missing[:2]))
    slope, radius = funnel
    height = float(np.clip(slope * (aside - radius) + raised, 0, HOVER_M))
    missing = missing + np.array([0, 0, height])
    # Below the funnel: first up, then sideways.
    missing[:2] *= np.clip(1.5 - missing[2] / 0.03, 0, 1)
    return GAIN * missing


def _goal_on(state: TableState, target: ObjectPose) -> Vector:
    return target.position + np.array([0, 0, 2 * state.table.half_size + 0.002])


def _is_on(state: TableState, pose: ObjectPose, target: ObjectPose) -> bool:
    offset = pose.position - target.position
    return bool(np.hypot(*offset[:2]) < 0.018 and abs(offset[2] - 2 * state.table.half_size) < 0.006)


def _goal_next_to(state: TableState, task: TabletopTask, target: ObjectPose) -> Vector:
    """Return the place in front of the target, seen from the robot, or behind it if another object is in the way.

    The fingers open to the other two sides. Choosing the nearer place would be hard to learn: a policy that averages
    the two stops above the target.
    """
    half = state.table.half_size
    sizes = sum(_extent(state, name) for name in (task.object, task.target or ""))
    reach = min(sizes + GAP * half, NEXT_TO * half - 0.005)
    others = [other.position[:2] for name, other in state.objects.items() if name not in (task.object, task.target)]
    before, behind = (target.position[:2] + np.array([side * reach, 0.0]) for side in (-1, 1))
    is_occupied = any(np.linalg.norm(before - other) < 3.4 * half for other in others)
    return np.array([*(behind if is_occupied else before), half])


def _extent(state: TableState, name: str) -> float:
    """Return half the extent of an object along x."""
    if not name.endswith("cube"):
        return state.table.half_size
    angle = state.objects[name].yaw
    return state.table.half_size * float(abs(np.cos(angle)) + abs(np.sin(angle)))


def _is_next_to(state: TableState, pose: ObjectPose, target: ObjectPose) -> bool:
    offset = pose.position - target.position
    is_low = pose.position[2] < state.table.half_size + 0.004
    return bool(np.hypot(*offset[:2]) < NEXT_TO * state.table.half_size - 0.002 and is_low)


def _push(state: TableState, pose: ObjectPose, direction: float) -> tuple[Vector, float]:
    """Descend behind the object with closed fingers, then push along `direction`, 1 for +y and -1 for -y."""
    offset = pose.position - state.position
    behind, aside = offset[1] * direction, offset[0]
    is_low = state.position[2] < PUSH_HEIGHT_M + 0.015
    if is_low and state.gap > state.table.open_gap / 2:
        return STILL, CLOSED
    if is_low and 0.02 < behind < 0.15 and abs(aside) < 0.015:
        drop = PUSH_HEIGHT_M - state.position[2]
        return np.array([GAIN * aside, direction * PUSH_STRIDE_M, GAIN * drop]), CLOSED
    goal = np.array([pose.position[0], pose.position[1] - direction * PUSH_FROM_M, PUSH_HEIGHT_M])
    return _approach(state.position, goal, WIDE), CLOSED


def _turn_upright(state: TableState) -> Vector:
    """Return the rotation that makes the gripper point straight down, its fingers opening to the left and right."""
    turn = np.diag([1.0, -1.0, -1.0]) @ state.axes.T
    vector = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    return shortened(GAIN * vector, TURN_RAD)

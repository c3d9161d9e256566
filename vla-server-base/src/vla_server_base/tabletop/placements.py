"""Random placements of the objects: within reach, with clearance, so that the task is possible."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vla_server_base.tabletop.tables import OBJECTS, Table
from vla_server_base.tabletop.tasks import PUSHED_M, TabletopTask

CLEARANCE = 4.4
"""The distance between objects, in half sizes, at which an open gripper reaches one without touching another."""

BEHIND_M, AHEAD_M, BESIDE = 0.12, 0.08, 3.4
"""The free space of a push: behind the object, ahead of its goal, and to each side in half sizes."""

MARGIN_M = 0.02
"""The distance of a target from the edge of the placement bounds."""

HELD_M, EMPTIED_RATE, STACKED_RATE = 0.07, 0.35, 0.15
"""An object this near to the gripper may be held; how often it is moved away, and how often one is put on another."""

TOUCHING, CLEAR = 2.9, 4.0
"""In half sizes: the distance of objects that do not touch, and the height of a gripper that touches none."""

Places = Mapping[str, Float[np.ndarray, " 2"]]


def place_objects(
    home: Float[np.ndarray, " nq"], table: Table, task: TabletopTask, random: np.random.Generator
) -> Float[np.ndarray, " nq"]:
    """Return `home` with each object at a random place on the table and a random angle."""
    while True:
        places = {name: np.array([random.uniform(*table.x), random.uniform(*table.y)]) for name in OBJECTS}
        if have_clearance(places, table) and is_possible(places, table, task):
            break
    qpos = home.copy()
    for row, name in zip(table.objects(qpos), OBJECTS, strict=True):
        half_turn = random.uniform(-np.pi, np.pi) / 2
        row[:2], row[3:] = places[name], (np.cos(half_turn), 0, 0, np.sin(half_turn))
    return qpos


def resample_objects(
    qpos: Float[np.ndarray, " nq"], table: Table, gripper: Float[np.ndarray, " 3"], random: np.random.Generator
) -> Float[np.ndarray, " nq"]:
    """Return `qpos` with the objects permuted and resampled, sometimes stacked; the arm and what it holds stay.

    An object within `HELD_M` of the gripper counts as held, and is sometimes resampled, too.
    """
    qpos = qpos.copy()
    free = table.objects(qpos)
    free[:] = random.permutation(free)
    stays = (np.linalg.norm(free[:, :3] - gripper, axis=1) < HELD_M) & (random.random() > EMPTIED_RATE)
    occupied = [row[:2].copy() for row in free[stays]]
    if gripper[2] < CLEAR * table.half_size and not stays.any():
        occupied.append(gripper[:2])
    for row in (free[index] for index in np.flatnonzero(~stays)):
        half_turn = random.uniform(-np.pi, np.pi) / 2
        row[3:] = np.cos(half_turn), 0, 0, np.sin(half_turn)
        row[:3] = *_free_place(occupied, table, random), table.half_size
        occupied.append(row[:2].copy())
    if not stays.any() and random.random() < STACKED_RATE:
        upper, lower = random.choice(len(OBJECTS), 2, replace=False)
        free[upper, :3] = free[lower, :3] + [*random.normal(0, 0.2 * table.half_size, 2), 2 * table.half_size]
    return qpos


def _free_place(
    occupied: Sequence[Float[np.ndarray, " 2"]], table: Table, random: np.random.Generator
) -> Float[np.ndarray, " 2"]:
    """Draw a place within the bounds, or slightly outside, where an object touches no other."""
    low, high = np.array([table.x, table.y]).T
    while True:
        place = random.uniform(low - MARGIN_M, high + MARGIN_M)
        if all(np.linalg.norm(place - other) > TOUCHING * table.half_size for other in occupied):
            return place


def have_clearance(places: Places, table: Table) -> bool:
    """Say whether an open gripper reaches each object without touching another."""
    distances = [places[a] - places[b] for a in OBJECTS for b in OBJECTS if a < b]
    return min(float(np.linalg.norm(distance)) for distance in distances) >= CLEARANCE * table.half_size


def is_possible(places: Places, table: Table, task: TabletopTask) -> bool:
    """Say whether the task is possible: a push needs free space, a target must not lie at the edge."""
    if task.target:
        (low_x, high_x), (low_y, high_y) = table.x, table.y
        x, y = places[task.target]
        return bool(low_x + MARGIN_M <= x <= high_x - MARGIN_M and low_y + MARGIN_M <= y <= high_y - MARGIN_M)
    if task.verb == "pick_up":
        return True
    end = places[task.object][1] + task.direction[1] * (PUSHED_M + AHEAD_M)
    if not table.y[0] <= end <= table.y[1]:
        return False
    return not any(
        _is_in_the_way(places[name] - places[task.object], table, task) for name in OBJECTS if name != task.object
    )


def _is_in_the_way(offset: Float[np.ndarray, " 2"], table: Table, task: TabletopTask) -> bool:
    ahead = offset[1] * task.direction[1]
    size = 2 * table.half_size
    return bool(abs(offset[0]) < BESIDE * table.half_size and -BEHIND_M - size < ahead < PUSHED_M + AHEAD_M + size)

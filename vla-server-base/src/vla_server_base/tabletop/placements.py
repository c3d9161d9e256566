"""Where the objects lie: at the start anywhere in reach, apart from one another, so that the task can be done."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vla_server_base.tabletop.tables import NUM_FINGERS, NUM_FREE, OBJECTS, Table
from vla_server_base.tabletop.tasks import PUSHED_M, TabletopTask

APART = 4.4
"""How far objects lie apart, in half sizes: an open gripper comes down on one and touches no other."""

BEHIND_M, BEYOND_M, BESIDE = 0.12, 0.08, 3.4
"""What a push leaves free: behind the object, beyond where it has to go, and to each side in half sizes."""

MARGIN_M = 0.02
"""How far from the edge of what is reached a cube lies on or next to which something is put."""

HELD_M, EMPTIED_RATE, STACKED_RATE = 0.07, 0.35, 0.15
"""What is so near to the gripper is taken for held; how often that is taken away, and one object laid on another."""

TOUCHING, CLEAR = 2.9, 4.0
"""In half sizes: how far apart objects lie that do not touch, and how high a gripper is that touches none."""

Places = Mapping[str, Float[np.ndarray, " 2"]]


def place_objects(
    home: Float[np.ndarray, " nq"], table: Table, task: TabletopTask, random: np.random.Generator
) -> Float[np.ndarray, " nq"]:
    """Return `home` with all objects elsewhere on the table, each turned by any angle."""
    while True:
        places = {name: np.array([random.uniform(*table.x), random.uniform(*table.y)]) for name in OBJECTS}
        if are_apart(places, table) and is_possible(places, table, task):
            break
    qpos = home.copy()
    free = qpos[table.num_joints + NUM_FINGERS :].reshape(len(OBJECTS), NUM_FREE)
    for row, name in zip(free, OBJECTS, strict=True):
        half_turn = random.uniform(-np.pi, np.pi) / 2
        row[:2], row[3:] = places[name], (np.cos(half_turn), 0, 0, np.sin(half_turn))
    return qpos


def lay_anew(
    qpos: Float[np.ndarray, " nq"], table: Table, gripper: Float[np.ndarray, " 3"], random: np.random.Generator
) -> Float[np.ndarray, " nq"]:
    """Return `qpos` with objects swapped and laid elsewhere, some on one another; the arm stays, and what it holds.

    What lies within `HELD_M` of the gripper may be held; now and then that is laid elsewhere, too.
    """
    qpos = qpos.copy()
    free = qpos[table.num_joints + NUM_FINGERS :].reshape(len(OBJECTS), NUM_FREE)
    free[:] = random.permutation(free)
    stays = (np.linalg.norm(free[:, :3] - gripper, axis=1) < HELD_M) & (random.random() > EMPTIED_RATE)
    taken = [row[:2].copy() for row in free[stays]]
    if gripper[2] < CLEAR * table.half_size and not stays.any():
        taken.append(gripper[:2])
    for row in (free[index] for index in np.flatnonzero(~stays)):
        half_turn = random.uniform(-np.pi, np.pi) / 2
        row[3:] = np.cos(half_turn), 0, 0, np.sin(half_turn)
        row[:3] = *_free_place(taken, table, random), table.half_size
        taken.append(row[:2].copy())
    if not stays.any() and random.random() < STACKED_RATE:
        upper, lower = random.choice(len(OBJECTS), 2, replace=False)
        free[upper, :3] = free[lower, :3] + [*random.normal(0, 0.2 * table.half_size, 2), 2 * table.half_size]
    return qpos


def _free_place(
    taken: Sequence[Float[np.ndarray, " 2"]], table: Table, random: np.random.Generator
) -> Float[np.ndarray, " 2"]:
    """Draw a place on the table, and a little beyond its edges, that touches nothing that is taken."""
    low, high = np.array([table.x, table.y]).T
    while True:
        place = random.uniform(low - MARGIN_M, high + MARGIN_M)
        if all(np.linalg.norm(place - other) > TOUCHING * table.half_size for other in taken):
            return place


def are_apart(places: Places, table: Table) -> bool:
    """Say whether a gripper reaches each object without touching another."""
    ways = [places[a] - places[b] for a in OBJECTS for b in OBJECTS if a < b]
    return min(float(np.linalg.norm(way)) for way in ways) >= APART * table.half_size


def is_possible(places: Places, table: Table, task: TabletopTask) -> bool:
    """Say whether there is room for the task: a free way for a push, no target at the edge."""
    if task.target:
        (low_x, high_x), (low_y, high_y) = table.x, table.y
        x, y = places[task.target]
        return bool(low_x + MARGIN_M <= x <= high_x - MARGIN_M and low_y + MARGIN_M <= y <= high_y - MARGIN_M)
    if task.verb == "pick_up":
        return True
    end = places[task.object][1] + task.direction[1] * (PUSHED_M + BEYOND_M)
    if not table.y[0] <= end <= table.y[1]:
        return False
    return not any(
        _is_in_the_way(places[name] - places[task.object], table, task) for name in OBJECTS if name != task.object
    )


def _is_in_the_way(offset: Float[np.ndarray, " 2"], table: Table, task: TabletopTask) -> bool:
    ahead = offset[1] * task.direction[1]
    size = 2 * table.half_size
    return bool(abs(offset[0]) < BESIDE * table.half_size and -BEHIND_M - size < ahead < PUSHED_M + BEYOND_M + size)

"""The tasks of the tabletop suite: what is to be done with which object, and what must then hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from vla_server_base.episodes.settings import Predicate
from vla_server_base.errors import UnknownName
from vla_server_base.scenes.messages import Measure
from vla_server_base.tabletop.tables import OBJECTS, Table

Verb = Literal["pick_up", "push_left", "push_right", "put_on", "put_next_to"]

LIFTED_M = 0.05
PUSHED_M = 0.08
ON_M = 0.02
"""How far the middle of what is put on a cube may be from the middle of the cube, horizontally."""
NEXT_TO = 4.0
"""In half sizes, how far apart the middles of two objects next to one another may be: no third fits between them."""
STAYED_M = 0.03
"""How far what something is put next to may have been moved, along x and along y."""
ON_TABLE_M = 0.01
"""How much higher or lower than half its size an object on the table may be; a cube that is pushed tilts."""
SETTLED_M = 0.005
AWAY_M = 0.04
"""How far above the object an open gripper has let go of it."""

LEFT = (0.0, 1.0, 0.0)
RIGHT = (0.0, -1.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class TabletopTask:
    """Something to do with `object`, on or next to `target` where the verb has one."""

    verb: Verb
    object: str
    target: str | None = None

    @property
    def name(self) -> str:
        """Name it as `TASKS` does: verb, object and target, joined by underscores."""
        return "_".join(part for part in (self.verb, self.object, self.target) if part)

    @property
    def direction(self) -> tuple[float, float, float]:
        """Which way it pushes: left is +y of the robot's base, as the robot sees it."""
        return LEFT if self.verb == "push_left" else RIGHT

    def success(self, table: Table) -> tuple[Predicate, ...]:
        """Return what must hold at once for the task to be done."""
        if self.verb == "pick_up":
            return (Predicate(measure=self._height, low=LIFTED_M, since_start=True),)
        if self.target is None:
            pushed = Measure(kind="along", names=(self.object,), direction=self.direction)
            on_table = Predicate(
                measure=self._height, low=table.half_size - ON_TABLE_M, high=table.half_size + ON_TABLE_M
            )
            return Predicate(measure=pushed, low=PUSHED_M, since_start=True), on_table
        if self.verb == "put_on":
            return *self._on(self.target, table), *self._let_go(table)
        return *self._next_to(self.target, table), *self._let_go(table)

    @property
    def _height(self) -> Measure:
        return Measure(kind="height", names=(self.object,))

    def _on(self, target: str, table: Table) -> Iterator[Predicate]:
        both, size = (self.object, target), 2 * table.half_size
        yield Predicate(measure=Measure(kind="above", names=both), low=size - SETTLED_M, high=size + SETTLED_M)
        yield Predicate(measure=Measure(kind="horizontal_distance", names=both), high=ON_M)
        yield Predicate(measure=Measure(kind="contact", names=both), low=1e-3)

    def _next_to(self, target: str, table: Table) -> Iterator[Predicate]:
        both = (self.object, target)
        yield Predicate(measure=Measure(kind="horizontal_distance", names=both), high=NEXT_TO * table.half_size)
        yield Predicate(measure=self._height, low=table.half_size - SETTLED_M, high=table.half_size + SETTLED_M)
        for axis in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)):
            moved = Measure(kind="along", names=(target,), direction=axis)
            yield Predicate(measure=moved, low=-STAYED_M, high=STAYED_M, since_start=True)

    def _let_go(self, table: Table) -> Iterator[Predicate]:
        opened = (table.finger_open + table.finger_zero + table.half_size) / 2
        yield Predicate(measure=Measure(kind="joint", names=(table.finger_joint,)), low=opened)
        above = Measure(kind="above", names=(table.hand, self.object))
        yield Predicate(measure=above, low=table.hand_height + AWAY_M)


def _all_tasks() -> Iterator[TabletopTask]:
    for name in OBJECTS:
        yield TabletopTask(verb="pick_up", object=name)
    for name in OBJECTS:
        yield TabletopTask(verb="push_left", object=name)
        yield TabletopTask(verb="push_right", object=name)
    for name, target in permutations(OBJECTS, 2):
        # Nothing stays on a sphere.
        if target != "green_sphere":
            yield TabletopTask(verb="put_on", object=name, target=target)
        yield TabletopTask(verb="put_next_to", object=name, target=target)


TASKS = {task.name: task for task in _all_tasks()}


def task_named(name: str) -> TabletopTask:
    """Return a task of the suite.

    Raises:
        UnknownName: naming the tasks there are.
    """
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    return TASKS[name]


def tasks_beginning(names: Iterable[str]) -> list[TabletopTask]:
    """Return the tasks whose names begin with one of `names`, in the order of `TASKS`; all where there are none.

    Raises:
        UnknownName: no task's name begins so; naming the tasks there are.
    """
    beginnings = tuple(names)
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in TASKS):
            raise UnknownName("task", beginning, TASKS)
    return [task for name, task in TASKS.items() if not beginnings or name.startswith(beginnings)]

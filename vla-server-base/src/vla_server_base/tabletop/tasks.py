"""The tasks of the tabletop suite: what to do with which object, and the conditions of success."""

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
"""The largest horizontal distance of an object from the centre of the cube that it is put on."""
NEXT_TO = 4.0
"""The largest distance of the centres of objects next to each other, in half sizes: no third fits between."""
STAYED_M = 0.03
"""How far the target of "put next to" may move, along x and along y."""
ON_TABLE_M = 0.01
"""How far the height of an object on the table may differ from half its size; a pushed cube tilts."""
SETTLED_M = 0.005
AWAY_M = 0.04
"""How far above a released object the open gripper is at least."""

LEFT = (0.0, 1.0, 0.0)
RIGHT = (0.0, -1.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class TabletopTask:
    """A verb applied to `object`, with a `target` for "put on" and "put next to"."""

    verb: Verb
    object: str
    target: str | None = None

    @property
    def name(self) -> str:
        """Name it as `TASKS` does: verb, object and target, joined by underscores."""
        return "_".join(part for part in (self.verb, self.object, self.target) if part)

    @property
    def direction(self) -> tuple[float, float, float]:
        """The direction of a push: left is +y of the robot's base, seen from the robot."""
        return LEFT if self.verb == "push_left" else RIGHT

    def success(self, table: Table) -> tuple[Predicate, ...]:
        """Return the conditions that must hold together for the task to be done."""
        if self.verb == "pick_up":
            return (Predicate(measure=self._height, low=LIFTED_M, since_start=True),)
        if self.target is None:
            pushed = Measure(kind="along", names=(self.object,), direction=self.direction)
            on_table = Predicate(
                measure=self._height, low=table.half_size - ON_TABLE_M, high=table.half_size + ON_TABLE_M
            )
            return Predicate(measure=pushed, low=PUSHED_M, since_start=True), on_table
        if self.verb == "put_on":
            return *self._on(self.target, table), *self._released(table)
        return *self._next_to(self.target, table), *self._released(table)

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

    def _released(self, table: Table) -> Iterator[Predicate]:
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
        UnknownName: the suite has no such task; the hint lists the tasks.
    """
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    return TASKS[name]


def tasks_beginning(names: Iterable[str]) -> list[TabletopTask]:
    """Return the tasks whose names begin with one of `names`, in the order of `TASKS`; all tasks if `names` is empty.

    Raises:
        UnknownName: no task's name begins with one of them; the hint lists the tasks.
    """
    beginnings = tuple(names)
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in TASKS):
            raise UnknownName("task", beginning, TASKS)
    return [task for name, task in TASKS.items() if not beginnings or name.startswith(beginnings)]

"""What trials add up to: successes with their intervals, how long they took, what went wrong; as Markdown tables."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from vla_server_base.tabletop.evaluation import TrialResult
from vla_server_base.tabletop.tables import OBJECTS
from vla_server_base.tabletop.tasks import TASKS

_Z_95 = 1.959964


def wilson_interval(num_done: int, num_tried: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate, at least 0 and at most 1 (E. B. Wilson, 1927)."""
    square = _Z_95**2
    middle = num_done + square / 2
    spread = _Z_95 * sqrt(num_done * (num_tried - num_done) / num_tried + square / 4)
    return max(0.0, (middle - spread) / (num_tried + square)), min(1.0, (middle + spread) / (num_tried + square))


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Some trials, counted.

    `median_steps` is of the successes, None without one. Of the failures, `num_astray` are those in which another
    object than the task's was moved farthest, and `num_idle` those in which none was moved.
    """

    num_tried: int
    num_done: int
    median_steps: float | None
    num_astray: int
    num_idle: int

    def __str__(self) -> str:
        """Say it as one Markdown row's cells."""
        low, high = wilson_interval(self.num_done, self.num_tried)
        steps = "" if self.median_steps is None else f"{self.median_steps:.0f}"
        counts = f"{self.num_done} of {self.num_tried} | {self.num_done / self.num_tried:.1%} | {low:.1%} to {high:.1%}"
        return f"{counts} | {steps} | {self.num_astray} | {self.num_idle}"


def tally(results: Iterable[TrialResult]) -> Tally:
    """Count some trials, at least one."""
    results = list(results)
    failures = [result for result in results if not result.success]
    steps = [result.num_steps for result in results if result.success]
    return Tally(
        num_tried=len(results),
        num_done=len(steps),
        median_steps=float(np.median(steps)) if steps else None,
        num_astray=sum(result.moved not in (None, TASKS[result.task].object) for result in failures),
        num_idle=sum(result.moved is None for result in failures),
    )


def success_table(results: Iterable[TrialResult]) -> str:
    """Return a row for each task, verb and for all, as Markdown."""
    results = list(results)
    columns = ("task", "done", "rate", "95 % (Wilson)", "median steps", "moved another", "moved none")
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    rows = (f"| {name} | {tally(those)} |" for name, those in _groups(results))
    return "\n".join([head, *rows])


def _groups(results: list[TrialResult]) -> Iterator[tuple[str, list[TrialResult]]]:
    for name in TASKS:
        if those := [result for result in results if result.task == name]:
            yield name, those
    for verb in dict.fromkeys(task.verb for task in TASKS.values()):
        if those := [result for result in results if TASKS[result.task].verb == verb]:
            yield f"**{verb}**", those
    if results:
        yield "**all**", results


def listening_table(results: Iterable[TrialResult]) -> str:
    """Return which object was lifted first, by which was asked for, as Markdown; for trials of picking up."""
    results = list(results)
    head = f"| asked for | {' | '.join(OBJECTS)} | none |\n|---|{'---|' * (len(OBJECTS) + 1)}"
    rows = []
    for name in OBJECTS:
        first = Counter(result.lifted[:1] for result in results if TASKS[result.task].object == name)
        cells = [first[lifted] for lifted in (*((other,) for other in OBJECTS), ())]
        rows.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join([head, *rows, "", _listening_rates(results)])


def _listening_rates(results: list[TrialResult]) -> str:
    """Say how often an object was lifted first that was, and that was not, asked for."""
    told = sum(result.lifted[:1] == (TASKS[result.task].object,) for result in results)
    # Each trial tries every object that it does not name.
    others = (len(OBJECTS) - 1) * len(results)
    untold = sum(bool(result.lifted) for result in results) - told
    sentences = []
    for what, done, tried in (("asked for", told, len(results)), ("not asked for", untold, others)):
        low, high = wilson_interval(done, tried)
        sentences.append(f"an object that is {what} is lifted first in {done} of {tried} ({low:.1%} to {high:.1%})")
    return "; ".join(sentences) + "."

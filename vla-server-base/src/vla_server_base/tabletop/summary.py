"""Summaries of trials as Markdown tables: success rates with intervals, steps, kinds of failures, grounding."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from vla_server_base.tabletop.tables import OBJECTS
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trial_result import TrialResult

_Z_95 = 1.959964


def wilson_interval(num_done: int, num_tried: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate, within 0 and 1 (E. B. Wilson, 1927)."""
    square = _Z_95**2
    middle = num_done + square / 2
    spread = _Z_95 * sqrt(num_done * (num_tried - num_done) / num_tried + square / 4)
    return max(0.0, (middle - spread) / (num_tried + square)), min(1.0, (middle + spread) / (num_tried + square))


@dataclass(frozen=True, kw_only=True)
class TrialSummary:
    """Counts of trials.

    `median_steps` is over successes, None without one. In `num_moved_another` failures another object than the task's
    moved farthest, in `num_moved_none` no object moved.
    """

    num_tried: int
    num_done: int
    median_steps: float | None
    num_moved_another: int
    num_moved_none: int

    def __str__(self) -> str:
        """Return the cells of a Markdown row."""
        low, high = wilson_interval(self.num_done, self.num_tried)
        steps = "" if self.median_steps is None else f"{self.median_steps:.0f}"
        counts = f"{self.num_done} of {self.num_tried} | {self.num_done / self.num_tried:.1%} | {low:.1%} to {high:.1%}"
        return f"{counts} | {steps} | {self.num_moved_another} | {self.num_moved_none}"


def summarize(results: Iterable[TrialResult]) -> TrialSummary:
    """Summarize at least one trial."""
    results = list(results)
    failures = [result for result in results if not result.success]
    steps = [result.num_steps for result in results if result.success]
    return TrialSummary(
        num_tried=len(results),
        num_done=len(steps),
        median_steps=float(np.median(steps)) if steps else None,
        num_moved_another=sum(result.moved not in (None, TASKS[result.task].object) for result in failures),
        num_moved_none=sum(result.moved is None for result in failures),
    )


def success_table(results: Iterable[TrialResult]) -> str:
    """Return a Markdown table with a row per task, per verb, and for all trials."""
    results = list(results)
    columns = ("task", "done", "rate", "95 % (Wilson)", "median steps", "moved another", "moved none")
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    rows = (f"| {name} | {summarize(group)} |" for name, group in _groups(results))
    return "\n".join([head, *rows])


def _groups(results: list[TrialResult]) -> Iterator[tuple[str, list[TrialResult]]]:
    for name in TASKS:
        if group := [result for result in results if result.task == name]:
            yield name, group
    for verb in dict.fromkeys(task.verb for task in TASKS.values()):
        if group := [result for result in results if TASKS[result.task].verb == verb]:
            yield f"**{verb}**", group
    if results:
        yield "**all**", results


def grounding_table(results: Iterable[TrialResult]) -> str:
    """Return a Markdown table of the object lifted first by the named object, for trials of picking up."""
    results = list(results)
    head = f"| asked for | {' | '.join(OBJECTS)} | none |\n|---|{'---|' * (len(OBJECTS) + 1)}"
    rows = []
    for name in OBJECTS:
        first = Counter(result.lifted[:1] for result in results if TASKS[result.task].object == name)
        cells = [first[lifted] for lifted in (*((other,) for other in OBJECTS), ())]
        rows.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join([head, *rows, "", _grounding_rates(results)])


def _grounding_rates(results: list[TrialResult]) -> str:
    """Return how often the named object, and another one, was lifted first."""
    num_named = sum(result.lifted[:1] == (TASKS[result.task].object,) for result in results)
    num_others = sum(bool(result.lifted) for result in results) - num_named
    # In each trial, any object that it does not name could be lifted.
    num_chances = (len(OBJECTS) - 1) * len(results)
    sentences = []
    for what, done, tried in (("asked for", num_named, len(results)), ("not asked for", num_others, num_chances)):
        low, high = wilson_interval(done, tried)
        sentences.append(f"an object that is {what} is lifted first in {done} of {tried} ({low:.1%} to {high:.1%})")
    return "; ".join(sentences) + "."

"""What is asked of a model's replicas, and how many keep the wait for a device well within the deadlines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

LONGEST_WAIT = 0.5
"""The share of the time until a request is due that it may wait; more replicas are added beyond it."""

FULL, SPARE = 0.8, 0.6
"""The share of its time that a device works after replicas were added, and at most after some were removed."""

NUM_LATE = 0.02
"""The share of requests that may be late; more replicas are added beyond it."""

RISEN = 0.8
"""Replicas that were too few carry at most this share of the load under which they were."""

DUE_S = 1.0
"""When a request is due where none has come yet."""


@dataclass(frozen=True, kw_only=True)
class ReplicaLoad:
    """What one replica reports; the keys of `record_autoscaling_stats`. See `EngineLoad`; None is not known yet."""

    waiting: float = 0.0
    arrivals_per_s: float = 0.0
    late: float = 0.0
    due_s: float | None = None
    batch_s: float | None = None
    seconds_each: float | None = None


@dataclass(frozen=True, kw_only=True)
class TierLoad:
    """All replicas of a model: what those that report say, and how many there are and may be.

    `num_running` counts all that run, `num_wanted` those that start, too. `queued` requests wait outside the replicas.
    """

    replicas: Sequence[ReplicaLoad]
    num_running: int
    num_wanted: int
    queued: float
    min_replicas: int
    max_replicas: int


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """What is remembered: `num_replicas` were too few under `devices`, the load in devices that work all the time."""

    num_replicas: int = 0
    devices: float = 0.0

    def forbids(self, num_replicas: int, devices: float) -> bool:
        """Return whether so many replicas would be too few again."""
        return num_replicas <= self.num_replicas and devices > RISEN * self.devices


def num_replicas_for(load: TierLoad, shortage: Shortage) -> tuple[int, Shortage]:
    """Return how many replicas a tier needs, and what to remember until the next decision.

    More when requests wait beyond `LONGEST_WAIT` or are late; fewer when the others would work for at most `SPARE` of
    their time, and their wait would be half as long as allowed. While a replica reports nothing, none is removed.
    """
    demand = _demand(load)
    if demand is None:
        return _bounded(load.num_wanted, load), shortage
    if demand.is_short(load.num_running):
        shortage = Shortage(num_replicas=load.num_running, devices=demand.devices)
        needed = max(load.num_running + 1, demand.num_for_wait(LONGEST_WAIT), math.ceil(demand.devices / FULL))
        return _bounded(max(load.num_wanted, needed), load), shortage
    if len(load.replicas) < load.num_running:
        return _bounded(load.num_wanted, load), shortage
    needed = max(math.ceil(demand.devices / SPARE), demand.num_for_wait(LONGEST_WAIT / 2))
    while needed < load.num_wanted and shortage.forbids(needed, demand.devices):
        needed += 1
    return _bounded(min(load.num_wanted, needed), load), shortage


def _bounded(num_replicas: int, load: TierLoad) -> int:
    return max(load.min_replicas, min(load.max_replicas, num_replicas))


@dataclass(frozen=True, kw_only=True)
class _Demand:
    """What is asked of a tier: how many devices it would keep busy, and the seconds of work that wait."""

    devices: float
    waiting_s: float
    batch_s: float
    due_s: float
    late: float

    def num_for_wait(self, share: float) -> int:
        """Return how many replicas work off what waits within a share of the time until it is due."""
        # A request waits for the batch that runs, too. Where that alone takes longer, replicas cannot help.
        at_most_s = max(share * self.due_s - self.batch_s, share * self.due_s / 2)
        return math.ceil(self.waiting_s / at_most_s) if at_most_s > 0 else 1

    def is_short(self, num_replicas: int) -> bool:
        """Return whether so many replicas, which run, are too few; not where no number of them keeps the deadlines."""
        is_late = self.late > NUM_LATE and self.batch_s < self.due_s
        return is_late or self.num_for_wait(LONGEST_WAIT) > num_replicas


def _demand(load: TierLoad) -> _Demand | None:
    """Return what is asked; None if it is not known: no replica reports, or none has answered yet what waits."""
    reports = load.replicas
    asked = sum(each.arrivals_per_s for each in reports)
    waiting = load.queued + sum(each.waiting for each in reports)
    paces = [each.seconds_each for each in reports if each.seconds_each is not None]
    if not reports or (not paces and asked + waiting > 0):
        return None
    pace = sum(paces) / len(paces) if paces else 0.0

    def seconds_each(replica: ReplicaLoad) -> float:
        return pace if replica.seconds_each is None else replica.seconds_each

    return _Demand(
        devices=sum(each.arrivals_per_s * seconds_each(each) for each in reports),
        waiting_s=load.queued * pace + sum(each.waiting * seconds_each(each) for each in reports),
        batch_s=max((each.batch_s for each in reports if each.batch_s is not None), default=0.0),
        due_s=min((each.due_s for each in reports if each.due_s is not None), default=DUE_S),
        late=sum(each.late * each.arrivals_per_s for each in reports) / asked if asked else 0.0,
    )


def replica_load(recent: Mapping[str, Sequence[float]]) -> ReplicaLoad | None:
    """Return the means of what a replica reported recently, by name; None if it reported nothing.

    Numbers that are not finite, or negative, count as not reported.
    """
    means = {field.name: mean_of(recent.get(field.name, ())) for field in fields(ReplicaLoad)}
    known = {name: mean for name, mean in means.items() if mean is not None}
    return replace(ReplicaLoad(), **known) if known else None


def mean_of(values: Sequence[float]) -> float | None:
    """Return the mean of the values that are finite and not negative; None if there are none."""
    usable = [value for value in values if math.isfinite(value) and value >= 0.0]
    return sum(usable) / len(usable) if usable else None

"""How well a control loop keeps its rate, and what became of the answers that it asked for."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

_NUM_KEPT = 10_000
"""Periods and latencies that percentiles are of: 200 s at 50 Hz."""


@dataclass(frozen=True)
class Percentiles:
    """The median, the 99th percentile and the maximum of what was measured [ms]; NaN before anything was."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True)
class LoopStatistics:
    """What a ControlLoop has done since its episode began."""

    num_ticks: int
    """Actions that were returned."""
    num_held: int
    """Of these, how many held still because no row was left."""
    num_late: int
    """Ticks that began a whole period late, or later."""
    num_skipped: int
    """Periods that passed without a tick: the loop never catches up."""
    num_asked: int
    """Observations that were sent."""
    num_failed: int
    """Of these, how many got no answer in time."""
    num_stale_rows: int
    """Rows that were dropped because their step was over when the answer came."""
    period_ms: Percentiles
    """From one tick to the next."""
    latency_ms: Percentiles
    """From an observation to its answer."""


@dataclass
class LoopCounts:
    """What a LoopStatistics is made of."""

    num_ticks: int = 0
    num_held: int = 0
    num_late: int = 0
    num_skipped: int = 0
    num_asked: int = 0
    num_failed: int = 0
    num_stale_rows: int = 0
    periods_s: "deque[float]" = field(default_factory=lambda: deque(maxlen=_NUM_KEPT))
    latencies_s: "deque[float]" = field(default_factory=lambda: deque(maxlen=_NUM_KEPT))

    def statistics(self) -> LoopStatistics:
        """Return the counts, and the percentiles of what was measured."""
        return LoopStatistics(
            num_ticks=self.num_ticks,
            num_held=self.num_held,
            num_late=self.num_late,
            num_skipped=self.num_skipped,
            num_asked=self.num_asked,
            num_failed=self.num_failed,
            num_stale_rows=self.num_stale_rows,
            period_ms=_percentiles(self.periods_s),
            latency_ms=_percentiles(self.latencies_s),
        )


def _percentiles(durations_s: Iterable[float]) -> Percentiles:
    values = 1e3 * np.array([*durations_s])
    if not len(values):
        return Percentiles(p50=float("nan"), p99=float("nan"), max=float("nan"))
    p50, p99, longest = np.percentile(values, [50, 99, 100])
    return Percentiles(p50=float(p50), p99=float(p99), max=float(longest))

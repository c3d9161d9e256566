"""How fast a robot's steps come, and how many of them pass until it has an answer."""

import math
from collections import deque

NUM_LAST = 10
"""Requests that are measured: the last ones."""


class Pace:
    """Measures a session's requests. Times are in seconds of any clock."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=NUM_LAST)
        self._latencies_s: deque[float] = deque(maxlen=NUM_LAST)

    def arrived(self, step: int, now: float) -> None:
        """Note when a step's request came; the same again does not count."""
        if not self._arrivals or step != self._arrivals[-1][0]:
            self._arrivals.append((step, now))

    def begin_episode(self) -> None:
        """Forget when steps came: the pause before an episode does not count as a step. Latencies stay."""
        self._arrivals.clear()

    def answered(self, latency_s: float) -> None:
        """Note how long an answer took."""
        self._latencies_s.append(latency_s)

    def inference_delay(self, control_hz: float | None) -> int | None:
        """Return how many steps pass during the longest of the last answers, rounded up; None if none was measured.

        Without `control_hz` the rate is that at which the last requests' steps followed each other.
        """
        rate = self._measured_hz() if control_hz is None else control_hz
        if rate is None or not self._latencies_s:
            return None
        return math.ceil(max(self._latencies_s) * rate)

    def _measured_hz(self) -> float | None:
        if len(self._arrivals) < 2:
            return None
        (first, began), (last, ended) = self._arrivals[0], self._arrivals[-1]
        return (last - first) / max(ended - began, 1e-6)

"""How old an image may become before an action for it is useless."""

import math
import time
from dataclasses import dataclass
from typing import Optional

from vla_client.errors import DeadlineExceeded, ObservationError


@dataclass(frozen=True)
class Deadline:
    """An observation expires `limit_ms` after it was taken; with infinity it never does.

    `seen_at` is a time of `time.monotonic`, which does not jump when the clock is set.
    """

    seen_at: float
    limit_ms: float

    @property
    def left_s(self) -> float:
        """The time that is left, 0 after the deadline."""
        return max(0.0, self.limit_ms / 1e3 - (time.monotonic() - self.seen_at))

    def check(self, why: str) -> None:
        """Raise DeadlineExceeded with the reason `why` if no time is left."""
        if not self.left_s:
            age_ms = 1e3 * (time.monotonic() - self.seen_at)
            raise DeadlineExceeded(
                f"deadline_exceeded: the image is {age_ms:.0f} ms old, at most {self.limit_ms:g} ms are allowed: {why}"
            )


def checked_limit_ms(deadline_ms: Optional[float]) -> float:
    """Return how old an image may become, infinity if there is no deadline.

    Raises:
        ValueError: it is not above 0.
    """
    if deadline_ms is None:
        return math.inf
    if not deadline_ms > 0:
        raise ValueError(f"deadline_ms: expected milliseconds above 0, got {deadline_ms}; None means no deadline")
    return deadline_ms


def time_seen(obs_time: Optional[float]) -> float:
    """Return when an image was taken; None means now.

    Raises:
        ObservationError: the time lies in the future, so it comes from another clock.
    """
    now = time.monotonic()
    if obs_time is not None and not obs_time <= now:
        raise ObservationError(
            f"obs_time: expected a time of time.monotonic(), at most {now:.3f} s, got {obs_time} s",
            hint="convert a time stamp of time.time() with time.monotonic() - (time.time() - stamp)",
        )
    return now if obs_time is None else float(obs_time)

"""How old a picture may become before an action for it is of no use."""

import math
import time
from dataclasses import dataclass

from vla_client.errors import Late, ObservationError


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """The end of an observation's time, `limit_ms` after it was seen; infinity never ends.

    `seen_at` is of `time.monotonic`, which does not jump where somebody sets the clock.
    """

    seen_at: float
    limit_ms: float

    @property
    def left_s(self) -> float:
        """How much time is left, 0 at the end of it."""
        return max(0.0, self.limit_ms / 1e3 - (time.monotonic() - self.seen_at))

    def check(self, why: str) -> None:
        """Raise Late, saying why, if there is no time left."""
        if not self.left_s:
            age_ms = 1e3 * (time.monotonic() - self.seen_at)
            raise Late(f"late: the picture may be {self.limit_ms:g} ms old and is {age_ms:.0f} ms old: {why}")


def checked_limit_ms(deadline_ms: float | None) -> float:
    """Return how old a picture may become, infinity where there is no deadline.

    Raises:
        ValueError: it is no length of time.
    """
    if deadline_ms is None:
        return math.inf
    if not deadline_ms > 0:
        raise ValueError(f"deadline_ms: {deadline_ms} is given, expected milliseconds above 0, or None for no deadline")
    return deadline_ms


def time_seen(obs_time: float | None) -> float:
    """Return when a picture was taken, now if that is not said.

    Raises:
        ObservationError: that is yet to come, so that it is of another clock.
    """
    now = time.monotonic()
    if obs_time is not None and not obs_time <= now:
        raise ObservationError(
            f"obs_time: {obs_time} s is given, and time.monotonic(), which deadlines count by, says {now:.3f} s",
            hint="for a time stamp of time.time(), give time.monotonic() - (time.time() - stamp)",
        )
    return now if obs_time is None else float(obs_time)

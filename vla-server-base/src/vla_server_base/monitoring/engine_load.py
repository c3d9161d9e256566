"""What an engine is asked for and how fast it answers: the numbers by which a cluster adds and removes replicas."""

import threading
import time
from collections import deque

_WINDOW_S = 10.0
# The time that a batch takes on the device is averaged over about so many.
_NUM_AVERAGED = 20
_NUM_DUE = 200
# A tenth of the requests may be due sooner.
_DUE_QUANTILE = 0.1


class EngineLoad:
    """Counts the last seconds of an engine; all methods may be called on any thread.

    Keys of `stats`, all in requests and seconds:

    - `arrivals_per_s`: requests that came, refused ones included.
    - `late`: the share of them, from 0 to 1, for which there was no place, or whose deadline passed before the device
      could have answered.
    - `due_s`: how long most requests have until they are due; missing before the first one.
    - `batch_s`: how long a batch takes on the device; missing before the first one.
    - `seconds_each`: how long a request takes, in batches of the size that does best; missing before the first one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the fields below
        self._started_at = time.monotonic()
        self._asked_at: deque[float] = deque()
        self._late_at: deque[float] = deque()
        self._due_s: deque[float] = deque(maxlen=_NUM_DUE)
        self._batch_s: float | None = None
        self._seconds_each: dict[int, float] = {}

    def note_asked(self, due_at: float) -> None:
        """Count a request that comes now, and is due at a time of `time.monotonic`."""
        now = time.monotonic()
        with self._lock:
            self._asked_at.append(now)
            self._due_s.append(max(0.0, due_at - now))
            self._forget_before(now - _WINDOW_S)

    def note_late(self) -> None:
        """Count a request that is refused: there is no place for it, or its deadline has passed."""
        with self._lock:
            self._late_at.append(time.monotonic())

    def note_taken(self, deadline: float | None) -> None:
        """Count a request that the device begins with; it is late if its batch is likely to end after its deadline."""
        with self._lock:
            ends_at = time.monotonic() + (self._batch_s or 0.0)
            if deadline is not None and ends_at >= deadline:
                self._late_at.append(time.monotonic())

    def note_served(self, num_requests: int, seconds: float) -> None:
        """Count a batch, and how long it took on the device."""
        with self._lock:
            self._batch_s = _averaged(self._batch_s, seconds)
            each = self._seconds_each
            each[num_requests] = _averaged(each.get(num_requests), seconds / num_requests)

    def stats(self) -> dict[str, float]:
        """Return the numbers that are known."""
        now = time.monotonic()
        with self._lock:
            self._forget_before(now - _WINDOW_S)
            num_asked, num_late = len(self._asked_at), len(self._late_at)
            stats = {
                "arrivals_per_s": num_asked / min(_WINDOW_S, max(1.0, now - self._started_at)),
                "late": min(1.0, num_late / num_asked) if num_asked else 0.0,
            }
            if self._due_s:
                stats["due_s"] = sorted(self._due_s)[int(_DUE_QUANTILE * len(self._due_s))]
            if self._batch_s is not None:
                stats |= {"batch_s": self._batch_s, "seconds_each": min(self._seconds_each.values())}
            return stats

    def _forget_before(self, since: float) -> None:
        for times in (self._asked_at, self._late_at):
            while times and times[0] < since:
                times.popleft()


def _averaged(average: float | None, value: float) -> float:
    return value if average is None else average + (value - average) / _NUM_AVERAGED

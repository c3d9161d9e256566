"""One device that several engines share: whose turn it is, and when it is likely to be idle."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np

_NUM_ARRIVALS = 32
_SHORT_GAP = 0.1
"""The share of gaps between requests that are shorter than the one that is expected."""


@runtime_checkable
class DeviceQueue(Protocol):
    """The queue of an engine, as far as others' turns depend on it."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for the device."""
        ...

    def is_quiet(self, quiet_s: float) -> bool:
        """Return whether no request waits, and none came or was answered within the last `quiet_s`."""
        ...


class SharedDevice:
    """Engines take turns, one batch at a time, in the order in which they ask; any thread may call all methods.

    Two batches at once would each take twice as long, and twice the memory. Each engine's queue decides what its batch
    is once it has the turn. Loading and warming up take no turns: a compilation takes seconds.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the fields below
        self._line: deque[object] = deque()
        self._arrivals: deque[float] = deque(maxlen=_NUM_ARRIVALS)
        self._queues: tuple[DeviceQueue, ...] = ()

    def join(self, queue: DeviceQueue) -> None:
        """Have a queue count whose requests are urgent: those of every engine but a shadow's."""
        with self._changed:
            self._queues = (*self._queues, queue)

    def leave(self, queue: DeviceQueue) -> None:
        """Have a queue count no longer."""
        with self._changed:
            self._queues = tuple(each for each in self._queues if each is not queue)

    @contextmanager
    def reserved(self, queue: DeviceQueue) -> Iterator[None]:
        """Have the device for the length of a `with` block, for a batch of a queue; a shadow's takes no turn."""
        if queue not in self._queues:
            yield
            return
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            self._changed.wait_for(lambda: self._line[0] is ticket)
        try:
            yield
        finally:
            with self._changed:
                self._line.popleft()
                self._changed.notify_all()

    def note_arrival(self, queue: DeviceQueue) -> None:
        """Note that a request comes now."""
        if queue in self._queues:
            self._arrivals.append(time.monotonic())

    def is_quiet(self, quiet_s: float) -> bool:
        """Return whether no request waits, and none came or was answered within the last `quiet_s`."""
        return all(queue.is_quiet(quiet_s) for queue in self._queues)

    def is_free_for(self, seconds: float) -> bool:
        """Return whether the device has nothing to do, and by the last requests' gaps will not for some time."""
        with self._changed:
            if self._line or not all(queue.is_empty for queue in self._queues):
                return False
            arrivals = tuple(self._arrivals)
        if len(arrivals) < 2:
            return True
        gap_s = float(np.quantile(np.diff(arrivals), _SHORT_GAP))
        since_s = time.monotonic() - arrivals[-1]
        return since_s + seconds < gap_s or since_s > 4 * max(np.diff(arrivals))

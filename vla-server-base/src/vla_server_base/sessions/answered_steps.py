"""The steps that a session has answered: the last one, how often they come, and who watches them."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vla_server_base.contract import Observation
from vla_server_base.sessions.requests import StepResult

RATE_S = 10.0
"""The time over which steps are counted."""
MAX_COUNTED = 4096
"""Steps that are counted at most: all of a robot at 400 Hz."""
MAX_BEHIND = 8
"""Steps that wait for a watcher; one that falls further behind loses the oldest of them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AnsweredStep:
    """A control step as it was answered: what the policy got, what the robot does, and how long it took.

    `total_ms` counts from when the session got the request; `time` is the end of that, in seconds since 1970.
    """

    observation: Observation
    instruction: str | None
    result: StepResult
    total_ms: float
    time: float


class StepWatcher:
    """Receives the steps of a session, in order. All methods are called on the event loop."""

    def __init__(self) -> None:
        self.has_ended = False
        self._steps: deque[AnsweredStep] = deque(maxlen=MAX_BEHIND)
        self._changed = asyncio.Event()

    def put(self, step: AnsweredStep) -> None:
        """Have the watcher receive a step."""
        self._steps.append(step)
        self._changed.set()

    def end(self) -> None:
        """Tell the watcher that no more steps come."""
        self.has_ended = True
        self._changed.set()

    async def next_step(self) -> AnsweredStep | None:
        """Wait for the next step; None once the session has ended and all its steps were received."""
        while not self._steps:
            if self.has_ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._steps.popleft()


class AnsweredSteps:
    """What a session keeps of the steps that it has answered. All methods are called on the event loop."""

    def __init__(self) -> None:
        self.last: AnsweredStep | None = None
        self._times: deque[float] = deque(maxlen=MAX_COUNTED)
        self._watchers: set[StepWatcher] = set()

    def add(self, step: AnsweredStep, now: float) -> None:
        """Count a step, and pass it on to the watchers; `now` is of any clock."""
        self.last = step
        self._times.append(now)
        for watcher in self._watchers:
            watcher.put(step)

    def per_s(self, now: float) -> float:
        """Return how many steps a second were answered in the last `RATE_S`."""
        while self._times and self._times[0] < now - RATE_S:
            self._times.popleft()
        return len(self._times) / RATE_S

    @contextmanager
    def watch(self) -> Iterator[StepWatcher]:
        """Watch the steps within a `with` block, from the last one on."""
        watcher = StepWatcher()
        if self.last is not None:
            watcher.put(self.last)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def end(self) -> None:
        """Tell the watchers that no more steps come."""
        for watcher in self._watchers:
            watcher.end()

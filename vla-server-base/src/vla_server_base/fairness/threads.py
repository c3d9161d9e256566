"""FairThreads: a pool of threads in which clients take turns."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from vla_server_base.fairness.claims import Claim, current_claim
from vla_server_base.fairness.precedence import LOOK_AGAIN_S, Precedence
from vla_server_base.fairness.queue import FairQueue

P = ParamSpec("P")
T = TypeVar("T")


class FairThreads(ThreadPoolExecutor):
    """A pool of threads of which one client has at most half at a time; work of no client counts as one more's.

    `max_per_client` may be less: threads that run Python at once keep the device and the event loop waiting. All work
    that is less urgent than a robot's has at most half, too, so that a robot's finds a thread; and none begins that
    must wait for a request of `precedence`. Whose work it is, is read off the context in which it is submitted.
    """

    def __init__(
        self, num_threads: int, name: str, max_per_client: int | None = None, precedence: Precedence | None = None
    ):
        super().__init__(num_threads, thread_name_prefix=name)
        self._max_running = max(1, num_threads // 2)
        self._max_of_client = min(self._max_running, max_per_client or num_threads)
        self._precedence = precedence or Precedence()
        self._lock = threading.Lock()  # guards the fields below
        self._waiting: FairQueue[tuple[Future[Any], Callable[[], Any]]] = FairQueue()
        self._num_running: Counter[str] = Counter()
        self._num_running_less_urgent = 0
        self._is_looking = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Have a thread do this when it is its client's turn."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.put(current_claim(), (future, lambda: fn(*args, **kwargs)))
        super().submit(self._work)
        return future

    def _work(self) -> None:
        """Run what waits until nothing more may run."""
        while (work := self._take()) is not None or self._looked_again():
            if work is None:
                continue
            self._have_another_look()
            claim, (future, function) = work
            try:
                _run(future, function)
            finally:
                with self._lock:
                    self._count(claim, -1)

    def _looked_again(self) -> bool:
        """Wait a moment if something waits, on one thread: what it gives way to ends without notice."""
        with self._lock:
            if self._is_looking or not self._waiting:
                return False
            self._is_looking = True
        time.sleep(LOOK_AGAIN_S)
        with self._lock:
            self._is_looking = False
        return True

    def _have_another_look(self) -> None:
        """Have another thread look after what still waits: the work that this one has taken may be long."""
        with self._lock:
            if self._is_looking or not self._waiting:
                return
        with suppress(RuntimeError):  # once the pool is shut down, the threads that work look when they are done
            super().submit(self._work)

    def _take(self) -> tuple[Claim, tuple["Future[Any]", Callable[[], Any]]] | None:
        with self._lock:
            work = self._waiting.pop(lambda claim, _: self._may_run(claim))
            if work is not None:
                self._count(work[0], 1)
            return work

    def _may_run(self, claim: Claim) -> bool:
        has_place = claim.priority == "robot" or self._num_running_less_urgent < self._max_running
        has_place = has_place and self._num_running[claim.flow.client] < self._max_of_client
        return has_place and not self._precedence.must_wait(claim)

    def _count(self, claim: Claim, change: int) -> None:
        self._num_running[claim.flow.client] += change
        self._num_running += Counter()  # forget who has none
        self._num_running_less_urgent += change * (claim.priority != "robot")


def _run(future: "Future[T]", function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def num_threads() -> int:
    """Return how many threads read requests: twice what the machine has processors for, and some that wait."""
    return 2 * (os.cpu_count() or 1) + 4


def num_threads_per_client() -> int:
    """Return how many threads work for one client at a time: the other processors are for the policy and for others."""
    return max(2, (os.cpu_count() or 1) // 2)

"""Threads that clients take turns for, so that none of them waits for another's long work."""

import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from vla_server_base.fairness.queue import FairQueue, current_flow

P = ParamSpec("P")
T = TypeVar("T")


class FairThreads(ThreadPoolExecutor):
    """A pool of threads of which one client has at most half at a time; work of no client counts as one more's.

    Whose work it is, is read off the context in which it is submitted.
    """

    def __init__(self, num_threads: int, name: str):
        super().__init__(num_threads, thread_name_prefix=name)
        self._max_per_client = max(1, num_threads // 2)
        self._lock = threading.Lock()  # guards the fields below
        self._waiting: FairQueue[tuple[Future[Any], Callable[[], Any]]] = FairQueue()
        self._num_running: Counter[str] = Counter()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Have a thread do this when it is its client's turn."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.put(current_flow(), (future, lambda: fn(*args, **kwargs)))
        super().submit(self._work)
        return future

    def _work(self) -> None:
        """Run what waits until nothing more may run."""
        while (work := self._take()) is not None:
            client, future, function = work
            try:
                _run(future, function)
            finally:
                with self._lock:
                    self._num_running[client] -= 1
                    self._num_running += Counter()  # forget who has none

    def _take(self) -> tuple[str, "Future[Any]", Callable[[], Any]] | None:
        with self._lock:
            work = self._waiting.pop(lambda flow, _: self._num_running[flow.client] < self._max_per_client)
            if work is None:
                return None
            flow, (future, function) = work
            self._num_running[flow.client] += 1
            return flow.client, future, function


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

"""What may take longer than there is time for: done on a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Generic, TypeVar

T = TypeVar("T")


class Errand(Generic[T]):
    """Work that has begun, and goes on however long somebody waits for it; no reason for a program to stay."""

    def __init__(self, work: Callable[[], T]):
        self._done: Future[T] = Future()
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def is_done_in(self, timeout_s: float) -> bool:
        """Wait until it is done, but not longer than that; say whether it is."""
        return bool(wait_for([self._done], min(timeout_s, threading.TIMEOUT_MAX)).done)

    def result(self) -> T:
        """Return what came of it, or raise that, once it is done."""
        return self._done.result()

    def then(self, use: Callable[[T], object]) -> None:
        """Use what comes of it, if anything does, when it is done."""
        self._done.add_done_callback(lambda done: done.exception() or use(done.result()))

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._done.set_result(work())
        except BaseException as error:
            self._done.set_exception(error)

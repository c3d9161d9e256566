"""Work that may take longer than a control step has time for, on a thread."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")


def start(work: Callable[[], T]) -> Future[T]:
    """Start `work` on a daemon thread, which does not keep the program from exiting."""
    future: Future[T] = Future()
    threading.Thread(target=_run, args=(work, future), daemon=True).start()
    return future


def is_done_within(future: Future[Any], timeout_s: float) -> bool:
    """Wait for a future, at most for `timeout_s`, which may be infinite; return whether it is done."""
    return bool(wait([future], min(timeout_s, threading.TIMEOUT_MAX)).done)


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)

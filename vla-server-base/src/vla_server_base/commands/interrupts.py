"""Ctrl-C that is never lost."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the type exists for type checkers only
    from sys import UnraisableHookArgs

_AGAIN_S = 0.05


def repeat_lost_interrupts() -> None:
    """Interrupt the main thread again when Ctrl-C comes in a destructor or a callback of the garbage collector.

    Python drops what is raised there, and JAX has such a callback: a training would go on as if nothing had been typed.
    """
    sys.unraisablehook = _report


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], None]]:
    """Give a check that raises `KeyboardInterrupt` where Ctrl-C came within the block, and a library dropped it.

    Call it now and then. Where Ctrl-C is ignored or has another handler, that stays as it is.
    """
    came = threading.Event()

    def note(*_: object) -> None:
        came.set()
        raise KeyboardInterrupt

    def check() -> None:
        if came.is_set():
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _report(unraisable: "UnraisableHookArgs") -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        main_thread = threading.main_thread().ident
        again = threading.Timer(_AGAIN_S, signal.pthread_kill, (main_thread, signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(unraisable)

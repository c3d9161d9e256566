"""Ctrl-C that is never lost."""

import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the type exists for type checkers only
    from sys import UnraisableHookArgs

_AGAIN_S = 0.05


def repeat_lost_interrupts() -> None:
    """Interrupt the main thread again when Ctrl-C comes in a destructor or a callback of the garbage collector.

    Python drops what is raised there, and JAX has such a callback: a training would go on as if nothing had been typed.
    """
    sys.unraisablehook = _report


def _report(unraisable: "UnraisableHookArgs") -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        main_thread = threading.main_thread().ident
        again = threading.Timer(_AGAIN_S, signal.pthread_kill, (main_thread, signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(unraisable)

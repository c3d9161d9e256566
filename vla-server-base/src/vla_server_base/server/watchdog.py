"""The end of a process that hangs."""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Calls `end` at a deadline, in its own thread, also while the rest of this process hangs.

    The thread starts with this object: when a server is to end, there may be no memory left for a new one.
    """

    def __init__(self, end: Callable[[], None]):
        self._end = end
        self._deadline: float | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._watch, name="vla-watchdog", daemon=True).start()

    def end_by(self, seconds: float) -> None:
        """Set the deadline; of several, the earliest counts."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while (left_s := self._left_s()) is None or left_s > 0:
                self._changed.wait(left_s)
        self._end()

    def _left_s(self) -> float | None:
        return None if self._deadline is None else self._deadline - time.monotonic()

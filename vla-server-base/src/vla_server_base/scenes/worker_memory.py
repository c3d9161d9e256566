"""Limits the resident memory of a worker process."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

CHECK_S = 0.05
"""Between two checks of a busy worker's memory; in that time it may take some 200 MB more."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryLimit:
    """Calls `kill` if a process takes more memory than it may, while it is checked.

    Not left to the kernel: RLIMIT_AS counts what is reserved and never touched, and no limit counts resident memory.
    """

    def __init__(self, pid: int, memory_mb: int, kill: Callable[[], None]):
        self.memory_mb = memory_mb
        self.is_exceeded = False
        self._pid, self._kill = pid, kill
        self._max_bytes: int | None = None
        self._next_check: asyncio.TimerHandle | None = None

    def set_baseline(self) -> None:
        """Let the process take `memory_mb` more than it has now."""
        num_bytes = _resident_bytes(self._pid)
        if num_bytes is not None:
            self._max_bytes = num_bytes + self.memory_mb * 2**20

    def start(self) -> None:
        """Check regularly, from now on."""
        self._next_check = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def stop(self) -> None:
        """Check no more."""
        if self._next_check is not None:
            self._next_check.cancel()

    def _check(self) -> None:
        num_bytes = _resident_bytes(self._pid)
        if num_bytes is None or self._max_bytes is None:
            return
        if num_bytes > self._max_bytes:
            self.is_exceeded = True
            self._kill()
        else:
            self.start()


def _resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process; None if it has ended, or the system has no /proc."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return None

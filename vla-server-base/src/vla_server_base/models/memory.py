"""Whether a further model is likely to fit into memory."""

import os
import re
from pathlib import Path

from vla_server_base.errors import ModelConflict
from vla_server_base.scenes.machine_memory import machine_memory_mb

_MEMINFO, _STATM = Path("/proc/meminfo"), Path("/proc/self/statm")
_RESERVE = 1.25
"""A model takes more while it is loaded than afterwards."""


def resident_mb() -> float | None:
    """Return the memory that this process has; None on a system that does not say."""
    try:
        return round(int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    except OSError:  # a system without /proc
        return None


def available_mb() -> float | None:
    """Return the memory that this process may still take; None on a system that does not say."""
    resident = resident_mb()
    if resident is None:
        return None
    free = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    left = machine_memory_mb() - resident
    return min(left, int(free[1]) / 2**10) if free else left


def check_memory(needed_mb: float | None, free_mb: float | None) -> None:
    """Refuse to load a model that is likely not to fit, by what the one that serves took.

    Raises:
        ModelConflict: with the numbers.
    """
    if needed_mb is None or free_mb is None or needed_mb * _RESERVE <= free_mb:
        return
    raise ModelConflict(
        f"the model that serves took {needed_mb:.0f} MB, and only {free_mb:.0f} MB are available for another one",
        hint="unload a model (DELETE /models/{id}), or give the server more memory",
    )

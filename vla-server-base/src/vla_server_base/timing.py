"""How long things take, as replies say it."""

import time


def ms_since(started: float) -> float:
    """Return how many milliseconds have passed since a reading of `time.perf_counter`."""
    return 1e3 * (time.perf_counter() - started)

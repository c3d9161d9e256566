"""How long things take, as replies say it."""

import time


def ms_since(started: float) -> float:
    """Return how many milliseconds have passed since a reading of `time.perf_counter`."""
    return 1e3 * (time.perf_counter() - started)


class Stopwatch:
    """What of a message's time has gone into what, in milliseconds; it starts when it is made."""

    def __init__(self):
        self._started = self._lap_started = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Call the time since the last one so."""
        self._laps[name] = ms_since(self._lap_started)
        self._lap_started = time.perf_counter()

    def timing_ms(self, **others: float) -> dict[str, float]:
        """Return the laps, what others have measured, and the total."""
        found = {**self._laps, **others, "total": ms_since(self._started)}
        return {name: round(ms, 3) for name, ms in found.items()}

"""How long the parts of a request take, for the reply."""

import time


class Stopwatch:
    """Measures laps in milliseconds; it starts when it is made."""

    def __init__(self):
        self._started = self._lap_started = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Name the time since the last lap."""
        now = time.perf_counter()
        self._laps[name] = 1e3 * (now - self._lap_started)
        self._lap_started = now

    def timing_ms(self, **others: float) -> dict[str, float]:
        """Return the laps, the times that others have measured, and the total."""
        times = {**self._laps, **others, "total": 1e3 * (time.perf_counter() - self._started)}
        return {name: round(ms, 3) for name, ms in times.items()}

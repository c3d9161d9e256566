"""The processor time that a process has used, and how long it would have to rest to leave half to others."""

import os
import time


class ProcessorTime:
    """The processor time of this process from now on, that of all threads: reading and replying count, too."""

    def __init__(self) -> None:
        self._began, self._used_before = time.monotonic(), time.process_time()

    def rest_s(self) -> float:
        """Return how long the process would have to rest, so that it had used half of the processors."""
        used_s = time.process_time() - self._used_before
        return 2 * used_s / (os.cpu_count() or 1) - (time.monotonic() - self._began)

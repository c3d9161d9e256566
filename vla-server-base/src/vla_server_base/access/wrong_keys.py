"""Addresses that send many wrong keys: they are answered more slowly, and valid keys as ever."""

import time
from collections.abc import Callable

from cachetools import TTLCache

WINDOW_S = 60.0
MAX_WRONG = 20
"""Wrong keys of one address within WINDOW_S that are answered at once."""
_MAX_ADDRESSES = 10_000


class WrongKeys:
    """How many wrong keys each address has sent, from its first one on for WINDOW_S.

    A valid key is never counted nor refused: a robot behind the same router as a broken script goes on working. That
    leaves guessing as it is, which is hopeless for 256 bits; what is limited is the work and the log that it costs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._counts: TTLCache[str, list[int]] = TTLCache(_MAX_ADDRESSES, WINDOW_S, timer=clock)

    def count(self, address: str) -> int:
        """Count one more of an address, and return how many there were."""
        # A list, since to store a number again would begin its time again.
        counter = self._counts.setdefault(address, [0])
        counter[0] += 1
        return counter[0]

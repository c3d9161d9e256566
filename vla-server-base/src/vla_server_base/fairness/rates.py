"""RateLimits: how many requests a second a client may send."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from vla_server_base.errors import RateLimited
from vla_server_base.request_context import current_client, current_rate

_MAX_CLIENTS = 10_000


@dataclass(kw_only=True)
class _Bucket:
    tokens: float
    filled_at: float


class RateLimits:
    """A bucket of tokens for each client that has a rate: a request takes one, and they come back at that rate.

    `default_rate` applies to clients whose key has no rate; 0 sets no limit. A bucket holds what comes in one second,
    and one at least: a robot whose steps come unevenly is not refused, nor is a client that sends one request in
    several seconds. All methods are called on the event loop.
    """

    def __init__(
        self,
        default_rate: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ):
        self._default_rate, self._clock, self._jitter = default_rate, clock, jitter
        self._buckets: dict[str, _Bucket] = {}

    def check_current(self) -> None:
        """Count the present task's request.

        Raises:
            RateLimited: see `check`.
        """
        rate = current_rate.get()
        self.check(current_client.get(), self._default_rate if rate is None else rate)

    def check(self, client: str, rate: float) -> None:
        """Count a request of a client that may send `rate` requests a second; 0 sets no limit.

        Raises:
            RateLimited: that is more than it may send; with the seconds until it may.
        """
        if not rate:
            return
        now, size = self._clock(), max(1.0, rate)
        bucket = self._bucket(client, size, now)
        bucket.tokens = min(size, bucket.tokens + rate * (now - bucket.filled_at))
        bucket.filled_at = now
        if bucket.tokens < 1:
            # Up to a second more for each, or all that are refused now would come back at once.
            wait_s = math.ceil((1 - bucket.tokens) / rate + self._jitter())
            raise RateLimited(
                f"{client} may send {rate:g} requests a second",
                hint=f"send again in {wait_s} s, and fewer; VLA_MAX_RATE or `keys new --rate` raises the limit",
                retry_after_s=wait_s,
            )
        bucket.tokens -= 1

    def _bucket(self, client: str, size: float, now: float) -> _Bucket:
        if client not in self._buckets:
            if len(self._buckets) >= _MAX_CLIENTS:
                # Whoever has been silent for longest has a full bucket again, as a new one is.
                del self._buckets[min(self._buckets, key=lambda each: self._buckets[each].filled_at)]
            self._buckets[client] = _Bucket(tokens=size, filled_at=now)
        return self._buckets[client]

"""Precedence: while a request of more right is on its way, others are not begun."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vla_server_base.fairness.claims import PRIORITIES, Claim, current_claim
from vla_server_base.fairness.queue import FairQueue
from vla_server_base.request_context import Priority

GIVE_WAY_S = 0.05
"""A request has precedence for so long after it came; others wait for it, and for those after it, for as long."""

LOOK_AGAIN_S = 0.002
"""How often it is looked whether what waits may be begun."""

_Key = tuple[str, Priority]


class Precedence:
    """The requests in flight, by client and class, and which work has to wait for them.

    Work of a request waits for requests of a more urgent class. That of a client with many requests in flight waits
    also for requests of the same class from clients with few. It waits for the first 50 ms of each request: a robot's
    is read, answered and sent meanwhile, with all processors, and nobody waits for a request that takes long. While
    one such request comes after the other, the others' work may begin for 50 ms in every 100.
    """

    def __init__(self, num_many: int | None = None):
        """A client with more than `num_many` requests in flight has many: by default four for each processor."""
        self._num_many = num_many or 4 * (os.cpu_count() or 1)
        self._lock = threading.Lock()  # guards the next two fields; the others belong to the event loop
        # When the requests of each client and class came, the newest at the end.
        self._in_flight: dict[_Key, dict[Claim, float]] = {}
        # Since when each client's work of a class has been held back.
        self._held_since: dict[_Key, float] = {}
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._is_looking = False

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Count the present task's request as in flight within the block, which begins once it need not wait."""
        claim = current_claim()
        key = _key(claim)
        with self._lock:
            self._in_flight.setdefault(key, {})[claim] = time.monotonic()
        try:
            if self.must_wait(claim):
                await self._turn_of(claim)
            yield
        finally:
            with self._lock:
                del self._in_flight[key][claim]
                if not self._in_flight[key]:
                    del self._in_flight[key]
                    self._held_since.pop(key, None)

    def must_wait(self, claim: Claim) -> bool:
        """Return whether work with this claim must not begin now; may be called on any thread."""
        key, now = _key(claim), time.monotonic()
        with self._lock:
            if key not in self._in_flight:
                return False
            if not self._is_preceded(key, now - GIVE_WAY_S):
                self._held_since.pop(key, None)
                return False
            held_s = now - self._held_since.setdefault(key, now)
            return held_s % (2 * GIVE_WAY_S) < GIVE_WAY_S

    def _is_preceded(self, own: _Key, since: float) -> bool:
        """Return whether a request that has precedence has come since a time, and is in flight."""
        own_client, own_priority = own
        has_many = self._has_many(own_client)
        return any(
            next(reversed(arrivals.values())) > since
            and (
                PRIORITIES.index(priority) < PRIORITIES.index(own_priority)
                or (has_many and priority == own_priority and not self._has_many(client))
            )
            for (client, priority), arrivals in self._in_flight.items()
        )

    def _has_many(self, client: str) -> bool:
        return sum(len(self._in_flight.get((client, each), ())) for each in PRIORITIES) > self._num_many

    async def _turn_of(self, claim: Claim) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.put(claim, turn)
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._let_next_in)
        await turn

    def _let_next_in(self) -> None:
        """Let one request go on that need not wait any longer: others arrive before the next one."""
        loop = asyncio.get_running_loop()
        ready = self._waiting.pop(lambda claim, _: not self.must_wait(claim))
        if ready is not None and not ready[1].done():
            ready[1].set_result(None)
        self._is_looking = bool(self._waiting)
        if self._is_looking and ready is not None:
            loop.call_soon(self._let_next_in)
        elif self._is_looking:
            loop.call_later(LOOK_AGAIN_S, self._let_next_in)


def _key(claim: Claim) -> _Key:
    return claim.flow.client, claim.priority

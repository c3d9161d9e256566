"""How a server ends when told to: unhealthy first, it finishes what runs, and cuts off the rest with an answer."""

import asyncio
import os
import signal
import time
from contextlib import suppress

from vla_server_base.server.host import Host
from vla_server_base.server.service import Service

_ANSWERING_S = 0.5
_CLOSING_S = 1.0
_CUT_S = 4.0


class Ending:
    """The end of one server, in a bounded time for all clients: `shutdown_grace_s` and `_CUT_S` more."""

    def __init__(self, host: Host, service: Service):
        self._host, self._service = host, service
        self._draining: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None

    @property
    def longest_s(self) -> float:
        """How long the end may take."""
        return self._service.config.shutdown_grace_s + _CUT_S

    def begin(self, is_urgent: bool) -> None:
        """Begin to end, or, if that has begun and it `is_urgent`, stop waiting for requests."""
        grace_s = self._service.config.shutdown_grace_s
        if self._draining is None:
            self._draining = asyncio.create_task(self._end(grace_s))
        elif is_urgent:
            self._draining.cancel()
            self._draining = asyncio.create_task(self._end(0.0))

    async def cut(self) -> None:
        """Answer requests that still wait for the policy or a scene with `Unavailable`, and cancel their work."""
        if self._cutting is None:
            self._cutting = asyncio.create_task(self._close())
        await asyncio.shield(self._cutting)

    async def _end(self, grace_s: float) -> None:
        service, began = self._service, time.monotonic()
        service.sessions.end_watching()
        if self._host.shares_port:
            self._host.close_listeners()
            await service.shutdown.hand_over(grace_s, lambda: service.traffic.num_open)
        await service.shutdown.drain(max(0.0, grace_s - (time.monotonic() - began)))
        self._host.end_by(_CUT_S)
        cutting = asyncio.create_task(self.cut())
        self._service.traffic.end()
        await self._service.shutdown.drain(_ANSWERING_S)
        self._host.stop(_CLOSING_S)
        await cutting

    def kill_workers(self) -> None:
        """Kill the scene workers without waiting: the last thing that a process does that has to be killed itself."""
        for pid in self._service.pool.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _close(self) -> None:
        await asyncio.gather(self._service.models.close(), self._close_pool())

    async def _close_pool(self) -> None:
        self._service.pool_start.cancel()
        await asyncio.wait([self._service.pool_start])
        await self._service.pool.close()

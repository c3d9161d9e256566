"""The end of a server: nothing new begins, and what runs is finished, for a while."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vla_server_base.errors import Unavailable


class Shutdown:
    """Whether the server is ending, and what still runs in it."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._num_running = 0
        self._nothing_runs = asyncio.Event()
        self._nothing_runs.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be waited for.

        Raises:
            Unavailable: the server is ending already.
        """
        self.check()
        self._num_running += 1
        self._nothing_runs.clear()
        try:
            yield
        finally:
            self._num_running -= 1
            if not self._num_running:
                self._nothing_runs.set()

    def check(self) -> None:
        """Refuse what begins now.

        Raises:
            Unavailable: the server is ending.
        """
        if self.begun.is_set():
            raise Unavailable("the server is shutting down", hint="send again once it, or another, is there")

    async def drain(self, grace_s: float) -> None:
        """Let nothing begin any more, and wait until nothing runs, though only so long."""
        self.begun.set()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._nothing_runs.wait(), grace_s)

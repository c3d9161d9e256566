"""The events of one episode, kept as they are sent, for any number of readers who come and go."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

QUIET_S = 15.0
"""After this long without an event a reader gets a comment, which shows that the connection is alive."""


@dataclass(frozen=True, kw_only=True)
class WrittenEvent:
    """An event as JSON."""

    name: str
    json: str


class KeptEvents:
    """Events in their order, each with its number as its id; readers hold up neither each other nor the episode."""

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._news = asyncio.Event()
        self._are_complete = False
        self.num_bytes = 0

    def add(self, event: WrittenEvent) -> None:
        """Add an event."""
        written = format_sse_event(event=event.name, data_str=event.json, id=str(len(self._events)))
        self._events.append(written)
        self.num_bytes += len(written)
        self._tell()

    def complete(self) -> None:
        """Let readers go when they have read all."""
        self._are_complete = True
        self._tell()

    def forget(self) -> None:
        """Drop all events; readers go without those that they have not read yet."""
        self._events.clear()
        self.num_bytes = 0
        self.complete()

    async def follow(self, after: int = -1, quiet_s: float = QUIET_S) -> AsyncGenerator[bytes, None]:
        """Yield the events behind number `after`, those to come too, and a comment whenever nothing comes for long."""
        number = after + 1
        while True:
            while number < len(self._events):
                yield self._events[number]
                number += 1
            if self._are_complete:
                return
            try:
                await asyncio.wait_for(self._news.wait(), quiet_s)
            except asyncio.TimeoutError:
                yield KEEPALIVE_COMMENT

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

"""The server's connections: how many may be open, and how long each may stay quiet or unread."""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vla_server_base.config import ServerConfig
from vla_server_base.errors import Overloaded, Unavailable
from vla_server_base.monitoring.monitor import Monitoring
from vla_server_base.server.in_flight import LEAST_BYTES_PER_S, Bodies

_TICK_S = 0.5
# A WebSocket that was silent for this long is closed if a new one needs its place.
_QUIET_S = 60.0
# File descriptors that connections leave to the rest of the server: its workers, its files, its log.
_KEPT_DESCRIPTORS = 256


@dataclass(eq=False, kw_only=True)
class Line:
    """One connection of a client, from its first byte to its last."""

    client: str
    transport: Any  # uvloop's have no common class
    give_up: Callable[[], None]
    """Ends an idle connection, with a reason if the protocol has one."""
    waits_since: float | None
    """When it began to wait for a request; None while one is answered."""
    quiet_since: float | None = None
    """When the last message was sent on it; None if it is not a WebSocket."""
    num_pending: int = 0
    stalled_s: float = 0.0


class Traffic:
    """All connections, and all bodies that are being received.

    Time is counted in ticks of the event loop, so that a loop that was held up makes nobody late.
    """

    def __init__(self, config: ServerConfig, monitor: Monitoring | None = None):
        self.now = 0.0
        self.monitor = monitor or Monitoring()
        self.bodies = Bodies(config)
        self._config = config
        self._max_lines = min(config.max_sockets, _free_descriptors())
        self._max_of_client = min(config.max_sockets_per_client, self._max_lines * 3 // 4)
        self._lines: dict[Any, Line] = {}
        self._of_clients: Counter[str] = Counter()

    @property
    def num_open(self) -> int:
        """How many connections are open."""
        return len(self._lines)

    async def watch(self) -> None:
        """End what takes too long, until this is cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.now += _TICK_S
            self.bodies.tick(_TICK_S)
            for line in list(self._lines.values()):
                self._check(line)

    def open(self, transport: Any, client: str, give_up: Callable[[], None]) -> Line:
        """Accept a new connection; if there are too many, close the one that has been idle the longest.

        Raises:
            Overloaded: none is idle.
        """
        if self._of_clients[client] >= self._max_of_client:
            self._make_way(client, "VLA_MAX_SOCKETS_PER_CLIENT")
        elif len(self._lines) >= self._max_lines:
            self._make_way(max(self._of_clients, key=self._of_clients.__getitem__), "VLA_MAX_SOCKETS")
        line = Line(client=client, transport=transport, give_up=give_up, waits_since=self.now)
        self._lines[transport] = line
        self._of_clients[client] += 1
        return line

    def of(self, transport: Any) -> Line | None:
        """Return the connection of a transport."""
        return self._lines.get(transport)

    def close(self, transport: Any) -> None:
        """Forget a connection that is gone."""
        line = self._lines.pop(transport, None)
        if line is not None:
            self._of_clients[line.client] -= 1
            if not self._of_clients[line.client]:
                del self._of_clients[line.client]

    def make_way_for_socket(self) -> bool:
        """Close the quietest WebSocket of the client who has the most, and say whether there was one to close."""
        sockets = [line for line in self._lines.values() if line.quiet_since is not None]
        of_clients = Counter(line.client for line in sockets)
        long_ago = self.now - _QUIET_S
        quiet = [line for line in sockets if line.quiet_since is not None and line.quiet_since < long_ago]
        quietest = min(quiet, key=lambda line: (-of_clients[line.client], line.quiet_since), default=None)
        if quietest is not None:
            quietest.quiet_since = None
            quietest.give_up()
        return quietest is not None

    def end(self) -> None:
        """Stop waiting for incomplete bodies and for clients that do not read."""
        self.bodies.give_all_up(
            Unavailable("the server is shutting down", hint="send again to another server, or after the restart")
        )
        for line in list(self._lines.values()):
            if line.transport.get_write_buffer_size():
                self._cut(line)

    def _make_way(self, client: str, setting: str) -> None:
        """Close the idlest connection of a client, or of any client if it has no idle one."""
        idle = [line for line in self._lines.values() if line.waits_since is not None]
        idlest = min(idle, key=lambda line: (line.client != client, line.waits_since), default=None)
        if idlest is None or (setting == "VLA_MAX_SOCKETS_PER_CLIENT" and idlest.client != client):
            raise Overloaded("too many connections are open", hint=f"close some; {setting} raises the limit")
        self._cut(idlest)

    def _check(self, line: Line) -> None:
        self._check_reader(line)
        if line.waits_since is not None and self.now - line.waits_since > self._config.head_timeout_s:
            line.waits_since = None
            line.give_up()

    def _check_reader(self, line: Line) -> None:
        """Cut off a client that does not read what it asked for."""
        num_pending = line.transport.get_write_buffer_size()
        num_read = max(0, line.num_pending - num_pending)
        line.stalled_s = max(0.0, line.stalled_s + _TICK_S - num_read / LEAST_BYTES_PER_S) if num_pending else 0.0
        line.num_pending = num_pending
        if line.stalled_s > self._config.reader_timeout_s:
            self._cut(line)

    def _cut(self, line: Line) -> None:
        self.close(line.transport)
        line.transport.abort()


def _free_descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else max(8, soft - min(_KEPT_DESCRIPTORS, soft // 2))

"""Requests in flight: their bodies, within one limit of bytes and time; their end, by a shutdown or a disconnection."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from vla_server_base.config import ServerConfig
from vla_server_base.errors import Overloaded, RequestTimeout, Unavailable, VLAError
from vla_server_base.request_context import current_client

T = TypeVar("T")

LEAST_BYTES_PER_S = 2**14
"""A body that comes more slowly than this, or a reply that is read more slowly, uses up its time limit."""

_LOOK_S = 0.05


class Shutdown:
    """Whether the server is shutting down, and how many requests still run.

    Where others answer at its address (`has_others`), it refuses nothing on the connections that it still has: each
    gets its answer and is closed, and the client's next connection reaches another server.
    """

    def __init__(self, *, has_others: bool = False) -> None:
        self.begun = asyncio.Event()
        self._refuses_from = asyncio.Event() if has_others else self.begun
        self._num_running = 0
        self._nothing_runs = asyncio.Event()
        self._nothing_runs.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run within a `with` block, for which a shutdown waits.

        Raises:
            Unavailable: the server is shutting down.
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
        """Refuse a request that begins now.

        Raises:
            Unavailable: the server is shutting down.
        """
        if self._refuses_from.is_set():
            raise _shutting_down()

    def check_idle(self) -> None:
        """Refuse to wait for the next message on a connection.

        Raises:
            Unavailable: the server is shutting down.
        """
        if self.begun.is_set():
            raise _shutting_down()

    async def hand_over(self, grace_s: float, num_open: Callable[[], int]) -> None:
        """Answer what comes on the connections that are open, until there is none, for at most `grace_s`."""
        self.begun.set()
        until = time.monotonic() + grace_s
        while num_open() and time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)

    async def drain(self, grace_s: float) -> None:
        """Refuse new requests, and wait until none runs, for at most `grace_s`."""
        self.begun.set()
        self._refuses_from.set()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._nothing_runs.wait(), grace_s)


def _shutting_down() -> Unavailable:
    return Unavailable("the server is shutting down", hint="send again to another server, or after the restart")


class Bodies:
    """The bodies that are being received, by any protocol: all within one limit of bytes, each within a time limit.

    Beyond the limit of bytes, the largest body of the client who sends the most is given up: small ones always get in.
    """

    def __init__(self, config: ServerConfig):
        self._max_bytes = (config.max_bodies_mb or 4 * config.max_body_mb) * 2**20
        self._timeout_s = config.body_timeout_s
        self._num_bytes = 0
        self._open: set[OpenBody] = set()

    def open(self, give_up: Callable[[VLAError], None]) -> "OpenBody":
        """Begin to receive a body of the current client; `give_up` is called once, if it has to stop."""
        body = OpenBody(bodies=self, client=current_client.get(), give_up=give_up)
        self._open.add(body)
        return body

    def add(self, body: "OpenBody", num_bytes: int) -> None:
        """Count the bytes that came, and make room for them."""
        body.num_bytes += num_bytes
        self._num_bytes += num_bytes
        while self._num_bytes > self._max_bytes and self._give_largest_up():
            pass

    def remove(self, body: "OpenBody") -> None:
        """Count a body no longer."""
        if body in self._open:
            self._open.remove(body)
            self._num_bytes -= body.num_bytes

    def tick(self, seconds: float) -> None:
        """Advance the time of all bodies that are not complete, and give up those that are too slow."""
        for body in [each for each in self._open if not each.is_whole]:
            body.age_s += seconds
            body.silent_s += seconds
            allowed_s = self._timeout_s + body.num_bytes / LEAST_BYTES_PER_S
            if body.silent_s > self._timeout_s or body.age_s > allowed_s:
                self._give_up(
                    body,
                    RequestTimeout(
                        f"the body did not come in time: {body.num_bytes} bytes in {body.age_s:.0f} s",
                        hint=f"send at least {LEAST_BYTES_PER_S} bytes a second; VLA_BODY_TIMEOUT_S gives more time",
                    ),
                )

    def give_all_up(self, error: VLAError) -> None:
        """Stop waiting for bodies that are not complete."""
        for body in [each for each in self._open if not each.is_whole]:
            self._give_up(body, error)

    def _give_largest_up(self) -> bool:
        of_clients: Counter[str] = Counter()
        for body in self._open:
            of_clients[body.client] += body.num_bytes
        unfinished = [body for body in self._open if not body.is_whole]
        largest = max(unfinished, key=lambda body: (of_clients[body.client], body.num_bytes), default=None)
        if largest is not None:
            message = f"the request bodies being received exceed {self._max_bytes} bytes"
            self._give_up(largest, Overloaded(message, hint="send again later; VLA_MAX_BODIES_MB raises the limit"))
        return largest is not None

    def _give_up(self, body: "OpenBody", error: VLAError) -> None:
        self.remove(body)
        body.give_up(error)


@dataclass(eq=False, kw_only=True)
class OpenBody:
    """One body, as far as it has come."""

    bodies: Bodies = field(repr=False)
    client: str
    give_up: Callable[[VLAError], None]
    num_bytes: int = 0
    age_s: float = 0.0
    silent_s: float = 0.0
    is_whole: bool = False

    def came(self, num_bytes: int, *, is_whole: bool = False) -> None:
        """Count the bytes that came; a complete body still counts against the limit until it is closed."""
        self.is_whole = is_whole
        if num_bytes:
            self.silent_s = 0.0
            self.bodies.add(self, num_bytes)

    def close(self) -> None:
        """Stop counting the body: it has been read, or was given up."""
        self.bodies.remove(self)


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Await `work`, and cancel it when the client goes away.

    Raises:
        ClientDisconnect: it went.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

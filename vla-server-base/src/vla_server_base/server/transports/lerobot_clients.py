"""LeRobot's clients: a session, a setup and the newest observation of each connection."""

import asyncio
import time
from contextvars import Context, copy_context

from vla_server_base.access.keys import current_owner
from vla_server_base.errors import Overloaded
from vla_server_base.protocols import lerobot
from vla_server_base.server.service import Service
from vla_server_base.sessions.step import run_step

ANSWER_S = 2.0
"""How long a client that asks for actions waits for some; LeRobot's own server's time."""


class LerobotClient:
    """One client: its setup, its newest observation, and the reply that is being made."""

    def __init__(self, peer: str, context: Context):
        self.session_id = f"lerobot:{peer}"
        self.context = context
        self.setup = lerobot.LerobotSetup()
        self.last_used = time.monotonic()
        self.receiving = asyncio.Lock()
        self._newest: lerobot.TimedStep | None = None
        self._has_come = asyncio.Event()
        self._answered_timestep: int | None = None
        self._work: asyncio.Task[bytes] | None = None

    def put(self, step: lerobot.TimedStep) -> None:
        """Keep an observation in place of the last one, unless its timestep is answered and it may be dropped."""
        if step.must_go or step.timestep != self._answered_timestep:
            self._newest = step
            self._has_come.set()

    async def actions(self, service: Service) -> bytes:
        """Return the reply to the newest observation; empty if there is none within `ANSWER_S`.

        A policy that takes longer is not asked again: its chunk is the reply to the next call.

        Raises:
            Superseded, RequestError, Unavailable: see `run_step`.
        """
        if self._work is None:
            self._work = asyncio.ensure_future(self._next_reply(service))
            # Marks an exception as retrieved: where the client is gone, nobody awaits the work.
            self._work.add_done_callback(lambda done: done.cancelled() or done.exception())
        work = self._work
        await asyncio.wait([work], timeout=ANSWER_S)
        if not work.done() or work.cancelled():
            return b""
        if self._work is work:
            self._work = None
        return work.result()

    def close(self) -> None:
        """Cancel the reply that is being made."""
        if self._work is not None:
            self._work.cancel()

    async def _next_reply(self, service: Service) -> bytes:
        await self._has_come.wait()
        step, self._newest = self._newest, None
        self._has_come.clear()
        assert step is not None, "the event says that there is one"
        result = await run_step(service.sessions, step.request.on_connection(self.session_id))
        self._answered_timestep = step.timestep
        if self._newest is not None and self._newest.timestep == step.timestep and not self._newest.must_go:
            self._newest = None
            self._has_come.clear()
        assert result.spec is not None, "a session says what has answered"
        with service.monitor.timed("write"):
            return lerobot.write_actions(step, result, self.setup, result.spec)


class LerobotClients:
    """The clients by their connections; gRPC does not report a connection's end, so idle ones are forgotten."""

    def __init__(self, service: Service):
        self._service = service
        self._clients: dict[tuple[str, str], LerobotClient] = {}
        """By their peer, and the key with which it asks."""

    def of(self, peer: str) -> LerobotClient:
        """Return the client of a connection, a new one at first.

        Raises:
            Overloaded: there are as many as allowed.
        """
        self._forget_idle()
        name = peer, current_owner()
        if name not in self._clients:
            max_clients = self._service.config.max_connections
            if len(self._clients) >= max_clients:
                raise Overloaded(
                    f"{max_clients} robots are connected, which is the limit",
                    hint="send again later; VLA_MAX_CONNECTIONS raises the limit",
                )
            self._clients[name] = LerobotClient(peer, copy_context())
        client = self._clients[name]
        client.last_used = time.monotonic()
        return client

    def forget(self, peer: str) -> None:
        """Forget a client, and end its session."""
        self._forget((peer, current_owner()))

    def forget_all(self) -> None:
        """Forget all clients."""
        for name in list(self._clients):
            self._forget(name)

    def _forget(self, name: tuple[str, str]) -> None:
        client = self._clients.pop(name, None)
        if client is not None:
            client.close()
            # As its key's: this may be called while another client is answered.
            client.context.run(self._service.sessions.end_if_exists, client.session_id)

    def _forget_idle(self) -> None:
        before = time.monotonic() - self._service.config.session_idle_s
        for name, client in list(self._clients.items()):
            if client.last_used < before:
                self._forget(name)

"""One WebSocket connection, with a default session that ends with it."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from fastapi import WebSocket

from vla_server_base.engine.engine import Engine
from vla_server_base.errors import Unauthorized, Unavailable, VLAError
from vla_server_base.monitoring.running_request import RunningRequest
from vla_server_base.monitoring.traceparent import TRACEPARENT
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.request_context import begin_request, client_fields, current_request_id, logged_path
from vla_server_base.server.error_replies import client_error, reason_of
from vla_server_base.server.service import Service

logger = logging.getLogger(__name__)

_GOING_AWAY, _POLICY_VIOLATION, _SERVICE_RESTART, _TRY_AGAIN_LATER = 1001, 1008, 1012, 1013

WireMessage = bytes | str


class SocketConnection:
    """Receives a client's messages and sends the replies of its protocol."""

    def __init__(self, socket: WebSocket):
        self.service: Service = socket.app.state.service
        self.session_id = f"socket:{secrets.token_hex(8)}"
        self.greeted: Engine | None = None
        """The engine of the model that the greeting described."""
        self._socket = socket

    @property
    def reader(self) -> ObservationReader:
        """What reads the client's messages.

        Raises:
            ModelUnavailable: the policy is not loaded.
        """
        return self.service.reader_for(self.session_id, self.greeted)

    async def answer_all(
        self,
        answer: Callable[[WireMessage], Awaitable[WireMessage | None]],
        write_error: Callable[[VLAError, str], WireMessage],
    ) -> None:
        """Answer each message until the client leaves or is silent for too long, or the server shuts down.

        Where its key is no longer valid, the client gets what `write_error` writes, and the connection is closed.
        """
        shutdown = self.service.shutdown
        shutdown_begins = asyncio.create_task(shutdown.begun.wait())
        try:
            while (message := await self._next_message(shutdown_begins)) is not None:
                begin_request()
                try:
                    self.service.access.check_still_admitted()
                except Unauthorized as error:
                    await self.send(write_error(*self.client_error(error)))
                    await self._socket.close(_POLICY_VIOLATION, error.message)
                    return
                with shutdown.running():
                    async with self.service.precedence.entered():
                        reply = await answer(message)
                    if reply is not None:
                        await self.send(reply)
        finally:
            shutdown_begins.cancel()

    def begin_message(self, route: str) -> RunningRequest:
        """Begin to measure a message; it belongs to the trace of the handshake, unless it names another one."""
        return self.service.monitor.begin_request(route, self._socket.headers.get(TRACEPARENT))

    async def send(self, message: WireMessage) -> None:
        """Send a message, text or bytes."""
        await (self._socket.send_text(message) if isinstance(message, str) else self._socket.send_bytes(message))

    def client_error(self, error: Exception, request_id: str | None = None) -> tuple[VLAError, str]:
        """Return the error that the client gets, with its request's id, and log it."""
        request_id = request_id or current_request_id.get()
        message_id = current_request_id.set(request_id)
        shown = client_error(error)
        self.log("session=%s%s", self.session_id, reason_of(shown))
        current_request_id.reset(message_id)
        return shown, request_id

    async def refuse(self, reason: WireMessage) -> None:
        """Send the reason for a refusal, and close the connection."""
        await self.send(reason)
        await self._socket.close(_TRY_AGAIN_LATER)

    async def close_after(self, error: Exception) -> None:
        """Close a connection whose client is silent, or that the server's shutdown ends."""
        if isinstance(error, Unavailable):
            await self._socket.close(_SERVICE_RESTART, error.message)
        else:
            await self._socket.close(_GOING_AWAY, "no message came for too long")

    def log(self, fields: str, *arguments: object) -> None:
        """Log one line about this connection."""
        path = logged_path(self._socket.scope["path"])
        logger.info(f"socket path=%s %s {fields}", path, client_fields(), *arguments)

    async def _next_message(self, shutdown_begins: "asyncio.Task[bool]") -> WireMessage | None:
        """Return the next message; None when the client has left.

        Raises:
            TimeoutError: no message came for too long.
            Unavailable: the server is shutting down.
        """
        receiving = asyncio.ensure_future(self._socket.receive())
        try:
            idle_s = self.service.config.connection_idle_s
            await asyncio.wait({receiving, shutdown_begins}, timeout=idle_s, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                self.service.shutdown.check_idle()
                raise asyncio.TimeoutError
            message = receiving.result()
        finally:
            receiving.cancel()
        if message["type"] == "websocket.disconnect":
            return None
        data = message.get("bytes")
        return message["text"] if data is None else data

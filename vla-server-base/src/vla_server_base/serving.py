"""A real server on a real socket for the length of a `with` block."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.edge import logged_path, reason_of
from vla_server_base.errors import BodyTooLarge, ProtocolError
from vla_server_base.request_id import begin_request

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_TOO_BIG = 1009
# A peer that vanished, by its kernel's silence; as the platform names them.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# For what was sent and is not acknowledged, to which the above does not apply.
_UNACKNOWLEDGED_MS = {"TCP_USER_TIMEOUT": 60_000}


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, where a client hears why its frame is refused, even while it still sends it.

    A socket closed on bytes that nobody read is reset, and the close frame is lost with it (RFC 9293, 3.10.4). So only
    our half is closed; what else comes is dropped unread, until the client closes too, or for uvicorn's close timeout.

    A client may be busy for minutes, with its simulator or its compiler in its event loop, and answer no ping, though
    its kernel answers for it: so it is the kernels that find out where a machine or a network is gone, in a minute.
    """

    def connection_made(self, transport: Any) -> None:  # uvloop's are of no common class
        """Begin, with the kernel looking after the peer's."""
        super().connection_made(transport)
        wire = transport.get_extra_info("socket")
        if wire is not None and wire.family in (socket.AF_INET, socket.AF_INET6):
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (_KEEPALIVE | _UNACKNOWLEDGED_MS).items():
                if hasattr(socket, name):
                    wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    async def send(self, message: Any) -> None:
        """Send what the app says; a handshake that it answers with an error is at its end then, and no fault of its."""
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent

    def handle_parser_exception(self) -> None:
        """Say why the frame is refused, where it is not yet said."""
        if self.close_sent:
            return
        refusal = self.conn.close_sent
        assert refusal is not None
        self.close_sent = True
        self._log_refusal(refusal.code, refusal.reason)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": refusal.code, "reason": refusal.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def _log_refusal(self, code: int, reason: str) -> None:
        error = BodyTooLarge(reason) if code == _TOO_BIG else ProtocolError(reason)
        path, client = logged_path(self.scope["path"]), self.client[0] if self.client else "-"
        logger.info("socket path=%s client=%s request_id=%s%s", path, client, begin_request(), reason_of(error))


def socket_settings(config: ServerConfig) -> dict[str, Any]:
    """Return what WebSockets ask of `uvicorn.Config`: how large frames are, no deflating in vain, and pings."""
    ping_s = config.websocket_ping_s or None
    return {
        "ws": SocketProtocol,
        "ws_max_size": config.max_body_mb * 2**20,
        "ws_per_message_deflate": False,
        "ws_ping_interval": ping_s,
        "ws_ping_timeout": ping_s,
    }


@contextmanager
def serving(app: FastAPI, *, host: str = "127.0.0.1", port: int = 0, **settings: Any) -> Iterator[str]:
    """Serve a VLA app, by default on a free port of 127.0.0.1, and give its base URL; uvicorn takes `settings`.

    The server runs on a thread of this process and is shut down in good order at the end.

    Raises:
        ConfigError: nothing can listen there, such as where the port is in use.
    """
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, workers=1, **settings))
    listening = _listen(host, port)
    thread = threading.Thread(target=server.run, args=([listening],), name="uvicorn")
    thread.start()
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not server.started:
            assert thread.is_alive(), "the server ended while it started; the log says why"
            assert time.monotonic() < deadline, f"the server did not start within {_START_TIMEOUT_S} s"
            time.sleep(0.01)
        yield f"http://{_reached_at(host)}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        hint = "choose another port (VLA_PORT or --port; 0 takes a free one), or another host (VLA_HOST or --host)"
        reason = str(error.strerror).partition(" (")[0]
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}", hint=hint) from error


def _reached_at(host: str) -> str:
    """Return where this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{host}]" if ":" in host else host

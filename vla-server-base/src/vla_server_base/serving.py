"""A real server on a real socket for the length of a `with` block."""

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

_START_TIMEOUT_S = 60.0


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, where a client hears why its frame is refused, even while it still sends it.

    A socket closed on bytes that nobody read is reset, and the close frame is lost with it (RFC 9293, 3.10.4). So only
    our half is closed; what else comes is dropped unread, until the client closes too, or for uvicorn's close timeout.
    """

    def handle_parser_exception(self) -> None:
        """Say why the frame is refused, where it is not yet said."""
        if self.close_sent:
            return
        refusal = self.conn.close_sent
        assert refusal is not None
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": refusal.code, "reason": refusal.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)


def socket_settings(config: ServerConfig) -> dict[str, Any]:
    """Return what WebSockets ask of `uvicorn.Config`: frames as large as bodies, and pictures not deflated in vain."""
    return {"ws": SocketProtocol, "ws_max_size": config.max_body_mb * 2**20, "ws_per_message_deflate": False}


@contextmanager
def serving(app: FastAPI, *, host: str = "127.0.0.1", port: int = 0, **settings: Any) -> Iterator[str]:
    """Serve a VLA app, by default on a free port of 127.0.0.1, and give its base URL; uvicorn takes `settings`.

    The server runs on a thread of this process and is shut down in good order at the end.

    Raises:
        ConfigError: nothing can listen there, such as where the port is in use.
    """
    settings = {**socket_settings(app.state.config), **settings}
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, **settings))
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

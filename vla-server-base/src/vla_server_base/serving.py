"""A real server on a real socket for the length of a `with` block."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from vla_server_base.config import ServerConfig

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
def serving(app: FastAPI, **settings: Any) -> Iterator[str]:
    """Serve a VLA app on a free port of 127.0.0.1 and give its base URL; `settings` go to `uvicorn.Config`.

    The server runs on a thread of this process and is shut down in good order at the end.
    """
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, workers=1, **settings))
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not server.started:
            assert thread.is_alive(), "the server ended while it started; the log says why"
            assert time.monotonic() < deadline, f"the server did not start within {_START_TIMEOUT_S} s"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()

"""A real server on a real socket for the length of a `with` block."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from vla_server_base.access.binding import check_binding
from vla_server_base.config import ConfigError

_START_TIMEOUT_S = 60.0


@contextmanager
def serving(app: FastAPI, *, host: str = "127.0.0.1", port: int = 0, **settings: Any) -> Iterator[str]:
    """Serve a VLA app, by default on a free port of 127.0.0.1, and give its base URL; uvicorn takes `settings`.

    The server runs on a thread of this process and is shut down in good order at the end.

    Raises:
        ConfigError: nothing can listen there, such as where the port is in use; or others could, without a key.
    """
    check_binding(app.state.config, host)
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
        yield f"{'https' if server.config.is_ssl else 'http'}://{_reached_at(host)}:{listening.getsockname()[1]}"
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
    """Return the host under which this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{host}]" if ":" in host else host

"""A server with the policy in its own process, which a fleet is compared with."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
from free_port import free_port

_PROGRAM = """
import sys
from vla_server_base.config import ServerConfig
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import serve
from window_echo import EchoSettings, WindowEcho
config = ServerConfig(port=int(sys.argv[1]), scene_workers=1, renderer="raycast", log_level="warning")
serve(create_vla_app(WindowEcho(EchoSettings(predict_s=float(sys.argv[2]))), config, model_id="window-echo"))
"""


@contextmanager
def one_server(predict_s: float = 0.0) -> Iterator[str]:
    """Give the address of a server; its policy takes so long."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(port), str(predict_s)])
    try:
        until = time.monotonic() + 60
        while not _is_ready(url):
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < until, "the server has not started"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/health").status_code == 200
    return False

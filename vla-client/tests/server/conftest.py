"""What the client's tests share: a server with the echo policy, and a way to it that can be cut."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "vla-server-base" / "tests" / "server"))

from echo_server import echo_app
from tcp_proxy import proxied, socket_url

from vla_server_base.server.uvicorn_server import serving


@pytest.fixture(scope="session")
def url():
    with serving(echo_app(max_body_mb=1, max_image_pixels=100_000)) as base_url:
        yield socket_url(base_url)


@pytest.fixture
def proxy(url):
    """The way to the server, whole at first."""
    with proxied(url) as proxy:
        yield proxy

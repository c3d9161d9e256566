"""What the tests against a server share: a server with the echo policy, and a TCP proxy to it that can be cut."""

import importlib.util

import pytest

# The server needs a newer Python than the client.
if importlib.util.find_spec("vla_server_base") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from echo_server import echo_app
    from tcp_proxy import proxied, socket_url

    from vla_server_base.server.uvicorn_server import serving

    @pytest.fixture(scope="session")
    def url():
        with serving(echo_app(max_body_mb=1, max_image_pixels=100_000)) as base_url:
            yield socket_url(base_url)

    @pytest.fixture
    def proxy(url):
        """The proxy to the server, without failures at first."""
        with proxied(url) as proxy:
            yield proxy

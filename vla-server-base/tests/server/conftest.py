"""The server that most tests of the service share."""

import httpx
import pytest
from echo_server import echo_app, wait_until_healthy
from episode_client import Page

from vla_server_base.server.uvicorn_server import serving


@pytest.fixture(scope="session")
def url():
    """A server that all tests share."""
    with serving(echo_app(max_body_mb=1, max_image_pixels=100_000)) as base_url:
        wait_until_healthy(base_url)
        yield base_url


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def page(client):
    """A client that leaves no episode."""
    yield Page(client)
    for episode in client.get("/episodes").json()["episodes"]:
        client.delete(f"/episodes/{episode['episode_id']}")

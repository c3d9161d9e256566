"""What every protocol's tests share: what the echo policy takes, and a server that speaks all protocols."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "server"))

from echo_server import echo_app, wait_until_healthy

from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter


@pytest.fixture
def reader() -> ObservationReader:
    return ObservationReader(spec=EchoAdapter().spec, max_image_pixels=10_000)


@pytest.fixture(scope="session")
def url():
    with serving(echo_app(max_body_mb=1, max_image_pixels=100_000)) as base_url:
        wait_until_healthy(base_url)
        yield base_url

"""A server with API keys, and what asks it with one."""

import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / name) for name in ("server", "protocols")]

from keyed_server import keyed_server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    with keyed_server(tmp_path_factory.mktemp("keyed")) as server:
        yield server


@pytest.fixture
def keyed(shared_server):
    """A server whose file has the keys arm-1, arm-2 (robots), ann (human) and night (batch), and no session."""
    yield shared_server
    shared_server.begin_again()

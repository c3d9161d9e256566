"""A server that speaks all protocols, and has answered some of each."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "server"))
sys.path.append(str(Path(__file__).parents[1] / "protocols"))

from all_protocols import send_traffic, serving_all


@pytest.fixture(scope="session")
def ports(tmp_path_factory):
    with serving_all(record=str(tmp_path_factory.mktemp("recordings"))) as ports:
        send_traffic(ports)
        yield ports

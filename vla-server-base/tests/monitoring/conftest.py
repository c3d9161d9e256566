"""A server that speaks all protocols, and has answered some of each."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "server"))
sys.path.append(str(Path(__file__).parents[1] / "protocols"))

from all_protocols import send_traffic, serving_all


@pytest.fixture(scope="session")
def ports():
    with serving_all() as ports:
        send_traffic(ports)
        yield ports

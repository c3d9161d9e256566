"""Episodes of a server execute chunks as its policy says, where the request says nothing."""

from types import MappingProxyType

import httpx
import pytest
from echo_server import echo_app, wait_until_healthy
from episode_client import EPISODE, Page, steps

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter


class ChunkEcho(EchoAdapter):
    """A policy that was trained to execute three actions of each chunk."""

    changes = MappingProxyType({"execution": "chunk", "execution_horizon": 3})


@pytest.fixture(scope="module")
def chunked():
    with serving(echo_app(ChunkEcho())) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        yield Page(client)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, [0, 3]),
        ({"execution": "chunk"}, [0, 3]),
        ({"execution_horizon": 2}, [0, 2]),
        ({"execution": "receding"}, [0, 1, 2, 3]),
        ({"ensemble_weight": 0.5}, [0, 1, 2, 3]),
    ],
)
def test_the_policys_own_execution_is_the_default(chunked, fields, asked):
    body = {**EPISODE, "max_steps": 4, **fields}
    reply = chunked.client.post("/execute", json={key: body[key] for key in body if key != "pace"}).json()
    assert [step["index"] for step in reply["steps"] if step["chunk"] is not None] == asked
    events = steps(chunked.events(chunked.begin(**body)))
    assert [step["index"] for step in events if step["chunk"] is not None] == asked

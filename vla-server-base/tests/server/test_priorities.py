"""A robot beside an evaluation on real sockets: who is answered first, and who makes room."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from echo_server import echo_app, of_one_colour, wait_until, wait_until_loaded
from test_engine import GatedEcho
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from vla_server_base.server.uvicorn_server import serving

BODY = {"instruction": "go", "image": of_one_colour(1, 2, 3)}


@contextmanager
def with_a_busy_device(**settings):
    """A server whose device works on a request with seed 0 until the gate opens; ways to ask it meanwhile."""
    adapter = GatedEcho()
    with serving(echo_app(adapter, max_batch=1, **settings)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_loaded(url)
        with ThreadPoolExecutor(8) as threads:

            def ask(seed: int, priority: str, **fields):
                headers, body = {"X-Priority": priority}, {**BODY, "seed": seed, **fields}
                return threads.submit(client.post, "/predict", json=body, headers=headers)

            def waiting(number: int):
                return lambda: client.get("/load").json()["queue"]["waiting"] == number

            try:
                ask(0, "robot")
                assert adapter.entered.wait(30)
                yield ask, waiting, adapter
            finally:
                adapter.gate.set()


def test_a_robots_request_overtakes_an_evaluations_and_a_persons_that_wait():
    with with_a_busy_device() as (ask, waiting, adapter):
        replies = []
        for number, (seed, priority) in enumerate([(1, "batch"), (2, "batch"), (3, "human"), (4, "robot")], 1):
            replies.append(ask(seed, priority))
            wait_until(waiting(number))
        adapter.gate.set()
        assert all(reply.result().is_success for reply in replies)
    assert adapter.batches == [[0], [4], [3], [1], [2]]


def test_a_queue_full_of_an_evaluations_requests_takes_a_robots():
    with with_a_busy_device(max_queue=2) as (ask, waiting, adapter):
        first, last = ask(1, "batch"), None
        wait_until(waiting(1))
        last = ask(2, "batch")
        wait_until(waiting(2))
        robot = ask(3, "robot")
        refused = last.result()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        adapter.gate.set()
        assert robot.result().is_success
        assert first.result().is_success


def test_of_one_client_the_session_that_is_due_first_is_answered_first():
    with with_a_busy_device() as (ask, waiting, adapter):
        for number, (seed, fields) in enumerate([(1, {}), (2, {"session_id": "arm", "deadline_ms": 900})], 1):
            ask(seed, "robot", **fields)
            wait_until(waiting(number))
        late = ask(3, "robot", deadline_ms=1)
        assert late.result().json()["error"]["code"] == "deadline_exceeded"
        adapter.gate.set()
    assert adapter.batches == [[0], [2], [1]]


def test_a_websocket_that_names_no_class_is_refused_at_the_handshake():
    with serving(echo_app()) as url:
        address = url.replace("http", "ws")
        with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers={"X-Priority": "urgent"}):
            pass
    assert refused.value.response.status_code == 422

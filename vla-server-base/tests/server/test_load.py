"""Many clients at once: right answers, a full queue, clients that go away, a shutdown."""

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from echo_server import DEADLINE_S, echo_app, of_one_colour, wait_until, wait_until_loaded

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.echo import noise


class Gated(EchoAdapter):
    """Answers only while `gate` is open; `seeds` are those that reached the device."""

    def __init__(self):
        self.gate = threading.Event()
        self.seeds: list[int] = []

    def warm_up_inputs(self):
        return []

    def predict(self, batch):
        self.seeds += [policy_input.seed for policy_input in batch]
        assert self.gate.wait(DEADLINE_S)
        return super().predict(batch)


def request(seed: int) -> dict:
    picture = of_one_colour(seed * 10 % 256, 0, 0)
    return {"instruction": f"take block {seed}", "image": picture, "seed": seed}


def test_twenty_clients_at_once_each_get_the_answer_they_would_get_alone(url):
    async def ask_all():
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            asked = [client.post("/predict", json=request(seed)) for seed in range(20)]
            return [answer.json()["actions"] for answer in await asyncio.gather(*asked)]

    with httpx.Client(base_url=url, timeout=30) as client:
        alone = [client.post("/predict", json=request(seed)).json()["actions"] for seed in range(20)]
    assert asyncio.run(ask_all()) == alone
    assert [actions[0][6] for actions in alone] == [noise(seed) for seed in range(20)]


@pytest.fixture
def busy():
    """A server whose device is busy with seed 0 until the adapter's gate opens, and the answer to seed 0."""
    adapter = Gated()
    with (
        serving(echo_app(adapter, max_queue=1)) as url,
        httpx.Client(base_url=url, timeout=30) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        wait_until_loaded(url)
        first = threads.submit(client.post, "/predict", json=request(0))
        wait_until(lambda: adapter.seeds == [0])
        try:
            yield adapter, url, client, threads, first
        finally:
            adapter.gate.set()


def test_the_loop_stays_awake_while_the_device_works(busy):
    _, _, client, _, first = busy
    started = time.perf_counter()
    for _ in range(20):
        assert client.get("/live").status_code == 200
    assert (time.perf_counter() - started) / 20 < 0.1
    assert not first.done()


def test_a_full_queue_refuses_with_503(busy):
    adapter, _, client, threads, first = busy
    answers = [threads.submit(client.post, "/predict", json=request(seed)) for seed in (1, 2)]
    wait_until(lambda: any(answer.done() for answer in answers))
    refused, waiting = sorted(answers, key=lambda answer: not answer.done())
    assert refused.result().status_code == 503
    assert refused.result().json()["error"]["code"] == "overloaded"
    assert refused.result().headers["retry-after"] == "1"
    adapter.gate.set()
    assert first.result().status_code == waiting.result().status_code == 200


def test_a_client_that_goes_away_frees_its_place_in_the_queue(busy, caplog):
    adapter, url, client, threads, first = busy
    caplog.set_level("INFO", "vla_server_base.server.middleware")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/predict", json=request(1), timeout=0.5, headers={"X-Request-Id": "gone"})
    wait_until(lambda: "status=499" in caplog.text)
    next_one = threads.submit(client.post, "/predict", json=request(2))
    time.sleep(0.2)
    adapter.gate.set()
    assert first.result().status_code == next_one.result().status_code == 200
    assert adapter.seeds == [0, 2]


def test_a_client_that_goes_away_in_the_middle_of_its_body_is_no_error(url, client, log_lines):
    with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80)) as connection:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-Id: half\r\n"
        connection.sendall(head + b"Content-Length: 1000\r\n\r\n{")
    wait_until(lambda: log_lines("request_id=half"))
    (line,) = log_lines("request_id=half")
    assert "status=499" in line
    assert client.get("/live").status_code == 200


def test_a_shutdown_lets_waiting_requests_finish():
    adapter = Gated()
    with ThreadPoolExecutor(2) as threads, httpx.Client(timeout=30) as client:
        with serving(echo_app(adapter)) as url:
            wait_until_loaded(url)
            answers = [threads.submit(client.post, f"{url}/predict", json=request(seed)) for seed in (0, 1)]
            wait_until(lambda: adapter.seeds)
            threading.Timer(0.3, adapter.gate.set).start()
        assert [answer.result().status_code for answer in answers] == [200, 200]


def test_a_shutdown_that_cannot_wait_answers_503():
    adapter = Gated()
    with ThreadPoolExecutor(1) as threads:
        with serving(echo_app(adapter, shutdown_grace_s=0)) as url:
            wait_until_loaded(url)
            answer = threads.submit(httpx.post, f"{url}/predict", json=request(0), timeout=30)
            wait_until(lambda: adapter.seeds)
            threading.Timer(1.0, adapter.gate.set).start()
        assert answer.result().status_code == 503
        assert answer.result().json()["error"] == {
            "code": "unavailable",
            "message": "the server is shutting down",
            "hint": "send again to another server, or after the restart",
        }

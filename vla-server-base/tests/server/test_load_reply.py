"""GET /load: the numbers are those of the moment."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from echo_server import echo_app, of_one_colour, wait_until, wait_until_healthy
from websockets.sync.client import connect

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

REQUEST = {"instruction": "go", "image": of_one_colour(255, 0, 0)}
SCENE = '<mujoco><worldbody><camera name="primary" pos="0 0 2"/><geom size="1"/></worldbody></mujoco>'


class GatedEcho(EchoAdapter):
    """An echo whose device can be held up."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, batch):
        self.gate.wait(30)
        return super().predict(batch)


@pytest.fixture
def adapter():
    return GatedEcho()


@pytest.fixture
def client(adapter):
    with serving(echo_app(adapter, max_batch=1, max_queue=9)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        yield client


def load(client: httpx.Client) -> dict:
    return client.get("/load").json()


def test_the_queue_is_seen_while_a_slow_policy_is_busy(client, adapter):
    assert load(client)["queue"] == {"waiting": 0, "max": 9}
    adapter.gate.clear()
    with ThreadPoolExecutor() as robots:
        answers = [robots.submit(client.post, "/predict", json=REQUEST) for _ in range(4)]
        wait_until(lambda: load(client)["queue"]["waiting"] == 3)
        adapter.gate.set()
        assert [answer.result().status_code for answer in answers] == [200] * 4
    assert load(client)["queue"]["waiting"] == 0


def test_the_times_of_predictions_are_those_of_the_last_ones(client, adapter):
    assert load(client)["predict_ms"] is None
    client.post("/predict", json=REQUEST)
    times = load(client)["predict_ms"]
    assert 0 < times["p50"] == times["p95"]
    client.post("/predict", json=REQUEST)
    assert load(client)["predict_ms"]["p95"] > load(client)["predict_ms"]["p50"]


def test_sessions_and_connections_are_counted(client):
    client.post("/predict", json={**REQUEST, "session_id": "arm"})
    with connect(str(client.base_url).replace("http", "ws", 1), compression=None):
        wait_until(lambda: load(client)["connections"] == {"num": 1, "max": 256})
    wait_until(lambda: load(client)["connections"]["num"] == 0)
    assert load(client)["sessions"] == {"num": 1, "max": 256}


def test_an_episode_and_its_worker_are_counted_while_it_runs(client, adapter):
    scene = client.get("/scenes/panda/tabletop").text
    request = {"instruction": "go", "xml_string": scene, "max_steps": 2}
    adapter.gate.clear()
    with ThreadPoolExecutor() as robots:
        answer = robots.submit(client.post, "/execute", json=request)
        wait_until(lambda: load(client)["episodes"] == {"running": 1, "max": 16})
        wait_until(lambda: load(client)["queue"]["waiting"] == 0 and load(client)["scene_workers"]["busy"] == 0)
        adapter.gate.set()
        assert answer.result().status_code == 200, answer.result().text
    assert load(client)["episodes"]["running"] == 0
    assert load(client)["scene_workers"]["num"] >= 1


def test_the_server_and_its_health_are_named(client):
    answer = load(client)
    assert (answer["status"], answer["reason"], answer["model"], answer["watchers"]) == ("healthy", None, "echo", 0)
    assert answer["uptime_s"] > 0
    assert answer["memory_mb"] > 10


def test_a_server_whose_model_is_still_loading_answers():
    class NeverLoaded(EchoAdapter):
        def load_model(self, model_id, device, cache_dir):
            loading.wait(30)

    loading = threading.Event()
    with serving(echo_app(NeverLoaded())) as url:
        answer = httpx.get(f"{url}/load").json()
        loading.set()
    assert (answer["status"], answer["predict_ms"]) == ("loading", None)
    assert answer["reason"] is not None

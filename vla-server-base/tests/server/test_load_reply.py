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


@pytest.fixture(scope="module")
def gated():
    return GatedEcho()


@pytest.fixture(scope="module")
def client(gated):
    with serving(echo_app(gated, max_batch=1, max_queue=9)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        yield client


@pytest.fixture
def gate(gated):
    """Closed within a test at most."""
    yield gated.gate
    gated.gate.set()


def load(client: httpx.Client) -> dict:
    return client.get("/load").json()


def test_the_queue_is_seen_while_a_slow_policy_is_busy(client, gate):
    assert load(client)["queue"] == {"waiting": 0, "max": 9}
    gate.clear()
    with ThreadPoolExecutor() as robots:
        answers = [robots.submit(client.post, "/predict", json=REQUEST) for _ in range(4)]
        wait_until(lambda: load(client)["queue"]["waiting"] == 3)
        gate.set()
        assert [answer.result().status_code for answer in answers] == [200] * 4
    assert load(client)["queue"]["waiting"] == 0


def test_the_times_of_predictions_are_a_median_and_a_percentile(client):
    for _ in range(3):
        client.post("/predict", json=REQUEST)
    times_ms = load(client)["predict_ms"]
    assert 0 < times_ms["p50"] < times_ms["p95"]


def test_sessions_and_connections_are_counted(client):
    before = load(client)["sessions"]["num"]
    client.post("/predict", json={**REQUEST, "session_id": "arm"})
    with connect(str(client.base_url).replace("http", "ws", 1), compression=None):
        wait_until(lambda: load(client)["connections"] == {"num": 1, "max": 256})
    wait_until(lambda: load(client)["connections"]["num"] == 0)
    assert load(client)["sessions"] == {"num": before + 1, "max": 256}


def test_an_episode_and_its_worker_are_counted_while_it_runs(client, gate):
    scene = client.get("/scenes/panda/tabletop").text
    request = {"instruction": "go", "xml_string": scene, "max_steps": 2}
    gate.clear()
    with ThreadPoolExecutor() as robots:
        answer = robots.submit(client.post, "/execute", json=request)
        wait_until(lambda: load(client)["episodes"] == {"running": 1, "max": 16})
        wait_until(lambda: load(client)["queue"]["waiting"] == 0 and load(client)["scene_workers"]["busy"] == 0)
        gate.set()
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

"""What goes on while a model takes over, is unloaded or is loaded: episodes, steps, and the end of the server."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from echo_server import wait_until, wait_until_healthy
from episode_client import EPISODE, Page, steps
from several_models import TASK, Lab
from test_shutdown import ended_by
from test_uvicorn import SERVE, folder, running

__all__ = ["folder"]

LOADS_FOR_EVER = """
import threading
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn
from vla_server_base.testing import EchoAdapter

class Endless(EchoAdapter):
    def load_model(self, model_id, device, cache_dir):
        threading.Event().wait()

def make(config):
    return create_vla_app(EchoAdapter(), config, model_id="echo", make_adapter=lambda _: Endless())

app = app_for_uvicorn(make)
"""


@pytest.fixture
def lab():
    with Lab().open() as lab:
        yield lab


@pytest.fixture
def threads():
    with ThreadPoolExecutor() as threads:
        yield threads


def first_numbers(actions) -> set[float]:
    return {action[0] for action in actions}


def test_a_steered_episode_goes_on_with_its_model_when_another_takes_over(lab):
    page = Page(lab.client)
    episode = page.begin(paused=True, max_steps=4)
    page.steer(episode, steps=2)
    wait_until(lambda: page.status(episode)["status"] == "paused")
    lab.bring_up(2)
    assert lab.client.delete("/models/numbered://1").json()["error"]["code"] == "model_conflict"
    page.steer(episode, status="running")
    events = page.events(episode)
    assert (events[0][2]["model"], first_numbers(step["action"] for step in steps(events))) == ("numbered://1", {1.0})
    assert page.events(page.begin())[0][2]["model"] == "m2"


def test_an_episode_of_execute_ends_with_the_model_it_began_with(lab, threads):
    adapter = lab.prepare(2)
    lab.bring_up(2)
    adapter.device.clear()
    adapter.has_begun.clear()
    body = {name: value for name, value in EPISODE.items() if name != "pace"}
    playing = threads.submit(lab.client.post, "/execute", json=body)
    assert adapter.has_begun.wait(60)
    lab.client.post("/models/numbered://1/serve", json={})
    adapter.device.set()
    reply = playing.result().json()
    assert (reply["model"], first_numbers(reply["actions"])) == ("m2", {2.0})
    assert lab.number() == (1.0, "numbered://1")


def test_an_unload_by_force_answers_the_step_that_runs_and_refuses_the_one_that_waits(lab, threads):
    adapter = lab.prepare(2)
    lab.bring_up(2, mode="hold")
    adapter.device.clear()
    adapter.has_begun.clear()
    runs = threads.submit(lab.client.post, "/predict", json={**TASK, "model": "m2"})
    assert adapter.has_begun.wait(60)
    waits = threads.submit(lab.client.post, "/predict", json={**TASK, "model": "m2"})
    wait_until(lambda: lab.service.models.engines.by_id["m2"].num_waiting == 1)
    assert lab.client.delete("/models/m2").status_code == 409
    assert lab.client.delete("/models/m2", params={"force": True}).status_code == 200
    error = waits.result().json()["error"]
    assert (error["code"], "unloaded" in error["message"]) == ("unavailable", True)
    adapter.device.set()
    assert runs.result().json()["action"][0] == 2.0
    assert lab.number() == (1.0, "numbered://1")


def test_a_server_ends_while_a_second_model_is_loaded(folder):
    (folder / "echo_service.py").write_text(LOADS_FOR_EVER)
    environment = {"VLA_MODELS": "on", "VLA_MODEL_SOURCES": "hf://lab/*", "VLA_SHUTDOWN_GRACE_S": "1"}
    with running(folder, *SERVE, **environment) as (url, process, _):
        wait_until_healthy(url)
        assert httpx.post(f"{url}/models", json={"model": "hf://lab/another", "id": "another"}).status_code == 202
        assert httpx.get(f"{url}/models/another").json()["state"] == "loading"
        started = time.monotonic()
        assert ended_by(process, signal.SIGTERM) == 0
        assert time.monotonic() - started < 20

"""What a server says about itself: loading, healthy, broken, and what it serves."""

import asyncio
import re
import socket
import threading
import time

import httpx
import pytest
import uvicorn
from echo_server import echo_app, of_one_colour, wait_until, wait_until_healthy

import vla_server_base
from vla_server_base.access.access import Access
from vla_server_base.config import ServerConfig
from vla_server_base.engine.engines import Engines
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.errors import ModelOutOfReach, ModelUnavailable
from vla_server_base.fairness.precedence import Precedence
from vla_server_base.fairness.rates import RateLimits
from vla_server_base.models.models import Models
from vla_server_base.protocols.known_keys import KNOWN_KEYS
from vla_server_base.scenes.content_stores import AssetStore, GeometryStore, SceneStore
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.server import session_events
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.backend import Backend
from vla_server_base.server.in_flight import Shutdown
from vla_server_base.server.service import Service
from vla_server_base.server.slots import Slots
from vla_server_base.server.steered_episodes import SteeredEpisodes
from vla_server_base.server.step_encoder import StepEncoder
from vla_server_base.server.traffic import Traffic
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.sessions.registry import Sessions
from vla_server_base.source_code import SourceCode
from vla_server_base.testing import EchoAdapter

REQUEST = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 0}


class SlowToLoad(EchoAdapter):
    """Loads once `gate` is open."""

    def __init__(self):
        self.has_begun, self.gate = threading.Event(), threading.Event()

    def load_model(self, model_id, device, cache_dir):
        self.has_begun.set()
        assert self.gate.wait(20)


class Broken(EchoAdapter):
    def load_model(self, model_id, device, cache_dir):
        raise ModelUnavailable("the hub cannot be reached", hint="set OCTO_MODEL to a folder")


class OutOfReach(EchoAdapter):
    """Cannot be loaded a few times."""

    def __init__(self, num_failures: int):
        self.num_failures, self.num_tries = num_failures, 0

    def load_model(self, model_id, device, cache_dir):
        self.num_tries += 1
        if self.num_tries <= self.num_failures:
            raise ModelOutOfReach("the hub is asleep", hint="wait")


def test_a_loading_model_answers_503_until_it_is_warmed_up():
    adapter = SlowToLoad()
    with serving(echo_app(adapter)) as url, httpx.Client(base_url=url, timeout=30) as client:
        response = client.get("/health")
        refusal = client.post("/predict", json=REQUEST)
        info = client.get("/info").json()
        live = client.get("/live")
        adapter.gate.set()
        wait_until_healthy(url)
        assert client.get("/health").json() == {
            "status": "healthy",
            "model": "echo",
            "model_status": "loaded",
        }
        assert client.post("/predict", json=REQUEST).status_code == 200
    assert response.status_code == 503
    loading = {"status": "loading", "model": "echo", "model_status": "loading"}
    assert response.json() == {**loading, "reason": "the model is being loaded"}
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "model_unavailable")
    assert "/health" in refusal.json()["error"]["hint"]
    assert int(response.headers["retry-after"]) > 0
    assert int(refusal.headers["retry-after"]) > 0
    assert (info["model_status"], info["policy"], info["limits"]["max_queue"]) == ("loading", None, 64)
    assert (live.status_code, live.json()) == (200, {"status": "live"})


def test_a_server_that_shares_its_port_listens_once_it_can_answer():
    adapter = SlowToLoad()
    app = create_vla_app(adapter, ServerConfig(scene_workers=1), model_id="echo", backend=Backend(shares_port=True))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, workers=1))
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        address = port.getsockname()
        thread = threading.Thread(target=server.run, args=([port],))
        thread.start()
        try:
            wait_until(adapter.has_begun.is_set)
            time.sleep(0.5)  # by now it would listen
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=5)
            adapter.gate.set()
            wait_until_healthy(f"http://127.0.0.1:{address[1]}")
        finally:
            adapter.gate.set()
            server.should_exit = True
            thread.join()


def test_a_broken_model_says_why():
    with serving(echo_app(Broken())) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until(lambda: client.get("/health").json()["status"] != "loading")
        response = client.get("/health")
        refusal = client.post("/predict", json=REQUEST)
        live = client.get("/live")
        assert client.get("/v2/health/live").json() == {"live": False}
    reason = "the hub cannot be reached; set OCTO_MODEL to a folder"
    assert response.status_code == refusal.status_code == 503
    assert response.json() == {
        "status": "broken",
        "model": "echo",
        "model_status": "broken",
        "reason": reason,
    }
    assert refusal.json()["error"] == {
        "code": "model_unavailable",
        "message": reason,
        "hint": "see the server's log",
    }
    assert (live.status_code, live.json()) == (503, {"status": "broken", "reason": reason})


def test_a_model_out_of_reach_is_tried_again(monkeypatch):
    monkeypatch.setattr("vla_server_base.engine.loading._FIRST_RETRY_S", 0.01)
    adapter = OutOfReach(num_failures=3)
    with serving(echo_app(adapter)) as url:
        wait_until_healthy(url)
    assert adapter.num_tries == 4


def test_while_it_is_tried_again_health_says_why_and_when():
    with serving(echo_app(OutOfReach(num_failures=99))) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until(lambda: "next try" in client.get("/health").json()["reason"])
        health, live = client.get("/health").json(), client.get("/live")
    assert health["status"] == health["model_status"] == "loading"
    assert re.fullmatch(r"the hub is asleep; wait; the next try is at \d\d:\d\d:\d\d UTC", health["reason"])
    assert live.status_code == 200


def test_it_is_not_tried_again_for_ever():
    adapter = OutOfReach(num_failures=99)
    with serving(echo_app(adapter, load_retry_s=0)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until(lambda: client.get("/health").json()["status"] == "broken")
    assert adapter.num_tries == 1


def test_info_tells_what_is_served_and_within_which_limits(client):
    info = client.get("/info").json()
    assert (info["model"], info["model_status"], info["reason"]) == ("echo", "loaded", None)
    assert (info["revision"], info["weights"]) == (None, "none")
    policy = info["policy"]
    assert policy["cameras"][0] == {"name": "primary", "height": 224, "width": 224, "required": False}
    assert (policy["window"], policy["horizon"], policy["action_dim"]) == (2, 4, 7)
    assert policy["datasets"] == ["echo", "echo_doubled"]
    assert policy["action_units"][:4] == ["m", "m", "m", "rad"]
    assert policy["details"] == {"parameters": 0}
    assert info["limits"]["max_body_mb"] == 1
    assert info["limits"]["max_instruction_chars"] == 1000
    assert info["versions"]["vla-server-base"] == vla_server_base.__version__
    assert {"python", "mujoco", "numpy"} <= set(info["versions"])


def test_a_loaded_model_is_not_healthy_before_scenes_can_be_drawn():
    async def scenario():
        config, adapter = ServerConfig(), EchoAdapter()
        engine, shutdown, slots = InProcessEngine(adapter, config, "echo"), Shutdown(), Slots(1, "episodes", "-")
        sessions = Sessions(Engines(engine), config)
        models = Models(sessions.engines, sessions, config)
        pool_start = asyncio.get_running_loop().create_future()
        service = Service(
            config=config,
            models=models,
            pool=ScenePool(config),
            pool_start=asyncio.ensure_future(waited_for(pool_start)),
            assets=AssetStore(1),
            scenes=SceneStore(1),
            episodes=slots,
            steered=SteeredEpisodes(slots, config, shutdown),
            connections=Slots(1, "connections", "-"),
            watchers=Slots(1, "watchers", "-"),
            geometries=GeometryStore(1),
            step_encoder=StepEncoder(session_events.step_event),
            sessions=sessions,
            observation_keys=KNOWN_KEYS,
            traffic=Traffic(config),
            shutdown=shutdown,
            access=Access(config),
            rates=RateLimits(),
            precedence=Precedence(),
            recorder=None,
            code=SourceCode.of(adapter),
        )
        engine.start()
        while engine.status.state != "loaded":
            await asyncio.sleep(0.005)
        before = service.health
        pool_start.set_result(None)
        await service.pool_start
        after = service.health
        await engine.close()
        return before, after

    before, after = asyncio.run(scenario())
    assert (before.status, before.model_status) == ("loading", "loaded")
    assert before.reason == "the scene workers are being started"
    assert (after.status, after.reason) == ("healthy", None)


async def waited_for(future):
    return await future

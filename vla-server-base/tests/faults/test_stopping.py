"""A server that is stopped or killed in the middle of something, under load, or while it starts."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import grpc
import httpx
import numpy as np
from echo_server import DEADLINE_S, of_one_colour, wait_until, wait_until_healthy
from free_port import free_port
from processes import wait_until_gone, workers_of
from raw_socket import connected, post
from test_uvicorn import SERVE, running

from vla_server_base.protocols import lerobot
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.testing.protocol_robots import Gr00tRobot, OpenpiRobot

PICTURE = {"instruction": "go", "image": of_one_colour(255, 0, 0)}
SCENE = {"instruction": "go", "xml_string": bundled_scene("widowx", "tabletop"), "seed": 0}
# Seconds of compiling, of a kind that nothing refuses.
LONG = "<mujoco><asset>{}</asset><worldbody>{}<camera pos='0 0 3'/></worldbody></mujoco>".format(
    "".join(f'<mesh name="m{i}" builtin="supersphere" params="190 1 {i + 1}"/>' for i in range(6)),
    "".join(f'<geom type="mesh" mesh="m{i}"/>' for i in range(6)),
)
HANGING = """
import time
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn
from vla_server_base.testing import EchoAdapter

class Hanging(EchoAdapter):
    def load_model(self, model_id, device, cache_dir):
        time.sleep(3600)

app = app_for_uvicorn(lambda config: create_vla_app(Hanging(), config, model_id="hanging"))
"""
CHANGING = """
import threading
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn
from vla_server_base.testing import EchoAdapter

class Changing(EchoAdapter):
    def load_model(self, model_id, device, cache_dir):
        if model_id.endswith("endless"):
            threading.Event().wait()

def make(config):
    return create_vla_app(Changing(), config, model_id="configured", make_adapter=lambda _: Changing())

app = app_for_uvicorn(make)
"""


def asked(url: str, seed: int = 0) -> httpx.Response:
    return httpx.post(f"{url}/predict", json={**PICTURE, "seed": seed}, timeout=DEADLINE_S)


def test_a_model_that_loads_for_ever_keeps_no_server_from_ending(folder):
    (folder / "echo_service.py").write_text(HANGING)
    with running(folder, *SERVE, VLA_SHUTDOWN_GRACE_S="0") as (url, process, _):
        wait_until(lambda: workers_of(process.pid))
        assert httpx.get(f"{url}/health").json()["status"] == "loading"
        workers = workers_of(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    wait_until_gone(workers)


def test_a_scene_that_compiles_is_finished_or_cut_and_its_worker_is_gone(folder):
    with running(folder, *SERVE, VLA_SHUTDOWN_GRACE_S="0") as (url, process, _), ThreadPoolExecutor() as threads:
        wait_until_healthy(url)
        body = {**SCENE, "xml_string": LONG}
        compiled = threads.submit(httpx.post, f"{url}/predict", json=body, timeout=DEADLINE_S)
        wait_until(lambda: httpx.get(f"{url}/load").json()["scene_workers"]["busy"])
        workers = workers_of(process.pid)
        process.send_signal(signal.SIGTERM)
        assert compiled.result().status_code in (200, 503)
        assert process.wait(DEADLINE_S) == 0
    wait_until_gone(workers)


def test_under_load_each_request_of_each_protocol_is_answered_before_the_end(slow):
    zmq_port = free_port()
    own = {"VLA_ZMQ_PORT": str(zmq_port), "VLA_SHUTDOWN_GRACE_S": "50"}
    with ExitStack() as stack, running(slow, *SERVE, **own) as (url, process, _), ThreadPoolExecutor(16) as threads:
        wait_until_healthy(url)
        robots = [stack.enter_context(closing(each)) for each in (OpenpiRobot(url), Gr00tRobot(zmq_port))]
        for robot in robots:
            robot.begin(seed=1500)
        waits = [threads.submit(asked, url, 1500) for _ in range(3)]
        steps = [threads.submit(robot.act, np.zeros((8, 8, 3), np.uint8), "go") for robot in robots]
        wait_until(lambda: httpx.get(f"{url}/load").json()["queue"]["waiting"] >= 4)
        process.send_signal(signal.SIGTERM)
        assert {each.result().status_code for each in waits} == {200}
        assert all(len(step.result()) == 7 for step in steps)
        assert process.wait(DEADLINE_S) == 0


def test_lerobots_call_that_waits_for_actions_ends_with_the_server(folder):
    port = free_port()
    with running(folder, *SERVE, VLA_LEROBOT_PORT=str(port)) as (url, process, _), ThreadPoolExecutor() as threads:
        wait_until_healthy(url)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            channel.unary_unary(f"/{lerobot.SERVICE}/Ready")(b"", timeout=30)
            waits = threads.submit(channel.unary_unary(f"/{lerobot.SERVICE}/GetActions"), b"", timeout=DEADLINE_S)
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
            assert waits.exception() is None or isinstance(waits.exception(), grpc.RpcError)


def test_a_server_killed_under_load_and_in_a_change_of_model_leaves_no_process_and_starts_again_as_configured(folder):
    (folder / "echo_service.py").write_text(CHANGING)
    cache, port = folder / "cache", free_port()
    own = {"VLA_PORT": str(port), "VLA_CACHE_DIR": str(cache), "VLA_MODELS": "on", "VLA_MODEL_SOURCES": "hf://lab/*"}
    with running(folder, *SERVE, **own) as (url, process, _), connected(url) as reader:
        wait_until_healthy(url)
        first = httpx.post(f"{url}/predict", json={**PICTURE, "session_id": "arm", "return_token": True}).json()
        body = json.dumps({**SCENE, "max_steps": 1000, "frames": "jpeg"}).encode()
        reader.sendall(post("/execute", len(body), "Accept: text/event-stream") + body)
        wait_until(lambda: httpx.get(f"{url}/load").json()["scene_workers"]["busy"])
        for model, state in (("second", "serving"), ("endless", "loading")):
            httpx.post(f"{url}/models", json={"model": f"hf://lab/{model}", "id": model}).raise_for_status()
            wait_until(lambda of=(model, state): httpx.get(f"{url}/models/{of[0]}").json()["state"] == of[1])
        workers = workers_of(process.pid)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        wait_until_gone(workers)
    with running(folder, *SERVE, **own) as (url, process, _):
        wait_until_healthy(url)
        models = httpx.get(f"{url}/models").json()
        assert (models["serving"], len(models["models"])) == ("configured", 1)
        body = {**PICTURE, "session_token": first["session"]["token"]}
        assert httpx.post(f"{url}/predict", json=body).json()["session"]["step"] == first["session"]["step"] + 1
        assert os.listdir(cache) == ["session.key"]

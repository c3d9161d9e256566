"""SIGKILL of a scene worker at any time, in whatever it does for a live server: the reply is the same to the bit."""

import os
import random
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest
from echo_server import echo_app, wait_until, wait_until_healthy

from vla_server_base.scenes.library import bundled_scene
from vla_server_base.server.uvicorn_server import serving

XML = bundled_scene("widowx", "tabletop")
SCENE = {"instruction": "go", "seed": 7}
WORK = {
    "render": ("/predict", {**SCENE, "return_image": True}, ("images", "actions")),
    "preview": ("/predict", {**SCENE, "preview": True}, ("preview", "actions")),
    "export": ("/scenes/geometry", {}, ()),
    "rollout": ("/execute", {**SCENE, "max_steps": 4}, ("actions", "states")),
}
KILLS_OF_EACH = 3


@pytest.fixture(scope="module")
def service():
    """A server with two workers and a spare one, and its pool."""
    app = echo_app(scene_workers=2, renderer="raycast", geometry_store_mb=1)
    with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until_healthy(url)
        yield client, app.state.service.pool


def answer(client: httpx.Client, work: str, scene: str):
    """What the server makes of a scene, without the times that it took."""
    path, body, kept = WORK[work]
    response = client.post(path, json={**body, "xml_string": scene})
    assert response.status_code == 200, response.text
    if kept:
        return {key: response.json()[key] for key in kept}
    return re.sub(rb"[0-9a-f]{64}", b"", response.content)  # the file names its scene


@pytest.mark.parametrize("work", WORK)
def test_a_worker_killed_at_any_time_costs_no_answer_and_changes_none(service, work):
    client, pool = service
    chance = random.Random(work)
    whole, num_killed = answer(client, work, XML), 0
    with ThreadPoolExecutor(1) as thread:
        while num_killed < KILLS_OF_EACH:
            # A scene that no worker has compiled: the signal comes while it compiles, or later.
            going = thread.submit(answer, client, work, f"{XML}<!-- {work} {chance.random()} -->")
            num_killed += killed_one(pool, going, chance.uniform(0.0, 0.15))
            assert going.result() == whole


def killed_one(pool, going, delay_s: float) -> int:
    """Kill the worker that is at work after a delay, if the request is not answered before; return how many it were."""
    wait_until(lambda: pool.workers.busy or going.done())
    time.sleep(delay_s)
    busy = [] if going.done() else [worker.pid for worker in pool.workers.busy]
    with suppress(ProcessLookupError):
        for pid in busy[:1]:
            os.kill(pid, signal.SIGKILL)
    return len(busy[:1])

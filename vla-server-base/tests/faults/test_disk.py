"""A disk that is full, a log that nobody can write, and servers that share a cache."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
from echo_server import DEADLINE_S, of_one_colour, wait_until_healthy
from free_port import free_port
from programs import limited
from test_uvicorn import SERVE, SETTINGS, running

from vla_server_base.scenes.library import bundled_scene

PICTURE = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 0}


def begun(url: str) -> str:
    """The token of a new session."""
    reply = httpx.post(f"{url}/predict", json={**PICTURE, "session_id": "arm", "return_token": True})
    return reply.json()["session"]["token"]


def step_of(url: str, token: str) -> int:
    return httpx.post(f"{url}/predict", json={**PICTURE, "session_token": token}).json()["session"]["step"]


def test_on_a_full_disk_all_is_answered_and_nothing_is_left_lying_about(folder):
    cache = folder / "cache"
    with running(folder, *limited(FSIZE=0), VLA_CACHE_DIR=str(cache)) as (url, _, lines):
        wait_until_healthy(url)
        assert step_of(url, begun(url)) == 1
        scene = {"instruction": "go", "xml_string": bundled_scene("widowx", "tabletop")}
        assert httpx.post(f"{url}/predict", json=scene, timeout=30).status_code == 200
    assert any("cannot be stored (File too large)" in line for line in lines)
    assert os.listdir(cache) == []


def test_a_log_that_cannot_be_written_costs_no_answer(folder):
    port = free_port()
    environment = {**os.environ, **SETTINGS, "VLA_PORT": str(port)}
    with (
        open("/dev/full", "w") as full,
        subprocess.Popen([sys.executable, *SERVE], cwd=folder, env=environment, stderr=full, stdout=full) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(url)
        assert httpx.post(f"{url}/predict", json=PICTURE).status_code == 200
        process.terminate()
        assert process.wait(DEADLINE_S) == 0


def test_two_servers_on_one_empty_cache_at_once_read_each_others_tokens(folder):
    cache = {"VLA_CACHE_DIR": str(folder / "new" / "cache")}
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        servers = [running(folder, *SERVE, **cache) for _ in range(2)]
        one, other = threads.map(lambda server: stack.enter_context(server)[0], servers)
        wait_until_healthy(one)
        wait_until_healthy(other)
        assert step_of(other, begun(one)) == 1
        assert os.listdir(folder / "new" / "cache") == ["session.key"]

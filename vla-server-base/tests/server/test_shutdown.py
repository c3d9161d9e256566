"""SIGTERM ends a server in a bounded time, whatever its clients do; what runs is finished, if it takes no longer."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import websockets.exceptions
from echo_server import DEADLINE_S, of_one_colour, wait_until, wait_until_healthy
from raw_socket import connected, error_of, post, rest_of, status_of
from test_uvicorn import SERVE, UVICORN, folder, running
from watching import watching
from websockets.sync.client import connect

from vla_server_base.scenes.library import bundled_scene

__all__ = ["folder"]

SLOW = """
import time
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.program import app_for_uvicorn
from vla_server_base.testing import EchoAdapter

class Slow(EchoAdapter):
    def predict(self, batch):
        time.sleep(max(each.seed for each in batch) / 1000)
        return super().predict(batch)

app = app_for_uvicorn(lambda config: create_vla_app(Slow(), config, model_id="slow"))
"""
PICTURE = {"instruction": "go", "image": of_one_colour(255, 0, 0)}
EPISODE = {"instruction": "go", "xml_string": bundled_scene("widowx", "tabletop"), "max_steps": 1000, "seed": 0}
EVENTS = "Accept: text/event-stream"
ON_ASYNCIO = (*UVICORN, "--loop", "asyncio")
COMMANDS = pytest.mark.parametrize("command", [SERVE, UVICORN, ON_ASYNCIO], ids=["serve", "uvicorn", "asyncio"])


@pytest.fixture
def slow(folder):
    """A server whose policy takes as many milliseconds as its seed says."""
    (folder / "echo_service.py").write_text(SLOW)
    return folder


def ended_by(process, *signals: int) -> int:
    for number in signals:
        process.send_signal(number)
    return process.wait(DEADLINE_S)


def workers_of(process) -> list[int]:
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(children) as file:
        return [int(pid) for pid in file.read().split()]


# uvicorn's command line and Ctrl-C: tests/server/test_uvicorn.py.
@pytest.mark.parametrize(
    ("command", "number"),
    [(SERVE, signal.SIGTERM), (SERVE, signal.SIGINT), (UVICORN, signal.SIGTERM), (ON_ASYNCIO, signal.SIGTERM)],
)
def test_an_idle_server_ends_at_once_with_0_and_leaves_no_worker(folder, command, number):
    with running(folder, *command, VLA_SHUTDOWN_GRACE_S="50") as (url, process, _):
        wait_until_healthy(url)
        workers = workers_of(process)
        assert workers
        started = time.monotonic()
        assert ended_by(process, number) == 0
        assert time.monotonic() - started < 20
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers))


def test_a_watcher_sees_the_end_and_does_not_delay_it(folder):
    with running(folder, *SERVE, VLA_SHUTDOWN_GRACE_S="50") as (url, process, _):
        wait_until_healthy(url)
        httpx.post(f"{url}/predict", json={**PICTURE, "session_id": "arm"})
        with watching(url, "arm") as events:
            assert next(events)[0] == "session"
            started = time.monotonic()
            assert ended_by(process, signal.SIGTERM) == 0
            assert time.monotonic() - started < 20
            assert [name for name, _ in events] == ["step", "end"]


@COMMANDS
def test_no_client_keeps_a_server_from_ending(folder, command):
    with running(folder, *command, VLA_SHUTDOWN_GRACE_S="1") as (url, process, _):
        wait_until_healthy(url)
        body = json.dumps({**EPISODE, "frames": "jpeg"}).encode()
        with (
            connected(url, SO_RCVBUF=4096) as deaf,
            connected(url) as unfinished,
            connected(url) as silent,
            connected(url) as half_a_head,
            connect(url.replace("http", "ws")) as talk,
            connect(url.replace("http", "ws"), compression=None) as half_a_frame,
        ):
            deaf.sendall(post("/execute", len(body), EVENTS) + body)
            unfinished.sendall(post("/predict", 1000) + b"{")
            half_a_head.sendall(b"POST /pre")
            half_a_frame.socket.sendall(b"\x82\xfe\x10\x00abcdefg")
            talk.recv()
            time.sleep(1)
            assert ended_by(process, signal.SIGTERM) == 0
            answer = rest_of(unfinished)
            assert (status_of(answer), error_of(answer)["code"]) == (503, "unavailable")
            assert rest_of(silent) == b""
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                talk.recv()
            assert talk.protocol.close_rcvd.code == 1012


@pytest.mark.parametrize("command", [SERVE, UVICORN], ids=["serve", "uvicorn"])
def test_what_runs_is_finished_while_health_says_503_and_nothing_new_begins(slow, command):
    with running(slow, *command, VLA_SHUTDOWN_GRACE_S="50") as (url, process, _), ThreadPoolExecutor() as threads:
        wait_until_healthy(url)
        answer = threads.submit(httpx.post, f"{url}/predict", json={**PICTURE, "seed": 3000}, timeout=DEADLINE_S)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{url}/health").status_code == 503)
        assert httpx.get(f"{url}/health").json()["status"] == "stopping"
        assert httpx.get(f"{url}/v2/health/ready").status_code == 503
        assert httpx.get(f"{url}/live").status_code == 200
        refused = httpx.post(f"{url}/predict", json={**PICTURE, "seed": 0})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert refused.headers["retry-after"]
        with pytest.raises(websockets.exceptions.InvalidStatus, match="503"):
            connect(url.replace("http", "ws"))
        assert answer.result().status_code == 200
        assert process.wait(DEADLINE_S) == 0


def test_what_runs_for_longer_is_cut_with_an_answer(slow):
    with running(slow, *SERVE, VLA_SHUTDOWN_GRACE_S="1") as (url, process, _), ThreadPoolExecutor() as threads:
        wait_until_healthy(url)
        waits = [
            threads.submit(httpx.post, f"{url}/predict", json={**PICTURE, "seed": 5000}, timeout=DEADLINE_S)
            for _ in range(3)
        ]
        with httpx.stream("POST", f"{url}/execute", json=EPISODE, headers={"Accept": "text/event-stream"}) as events:
            process.send_signal(signal.SIGTERM)
            said = "".join(events.iter_text())
        assert '"code":"unavailable"' in said.rpartition("event: error")[2]
        assert {each.result().status_code for each in waits} == {503}
        assert process.wait(DEADLINE_S) == 0


def test_steered_episodes_end_at_once_and_say_why(slow):
    with running(slow, *SERVE, VLA_SHUTDOWN_GRACE_S="3600") as (url, process, _):
        wait_until_healthy(url)
        kept = [httpx.post(f"{url}/episodes", json={**EPISODE, "paused": paused}).json() for paused in (True, False)]
        with (
            httpx.stream("GET", f"{url}/episodes/{kept[0]['episode_id']}/events") as paused,
            httpx.stream("GET", f"{url}/episodes/{kept[1]['episode_id']}/events") as played,
        ):
            process.send_signal(signal.SIGTERM)
            for events in (paused, played):
                assert '"code":"unavailable"' in "".join(events.iter_text()).rpartition("event: error")[2]
        assert process.wait(DEADLINE_S) == 0


def test_a_second_signal_waits_for_nobody(slow):
    with running(slow, *SERVE, VLA_SHUTDOWN_GRACE_S="3600") as (url, process, _):
        wait_until_healthy(url)
        with connected(url) as wire:
            wire.sendall(post("/predict", 1000))
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            time.sleep(1.5)
            assert process.poll() is None
            assert ended_by(process, signal.SIGINT) == 0


def test_a_signal_that_comes_twice_at_once_is_one(slow):
    with running(slow, *SERVE, VLA_SHUTDOWN_GRACE_S="50") as (url, process, _), ThreadPoolExecutor() as threads:
        wait_until_healthy(url)
        answer = threads.submit(httpx.post, f"{url}/predict", json={**PICTURE, "seed": 2000}, timeout=DEADLINE_S)
        time.sleep(0.5)
        assert ended_by(process, signal.SIGTERM, signal.SIGTERM) == 0
        assert answer.result().status_code == 200


def test_a_policy_that_does_not_come_back_keeps_no_server(slow):
    with running(slow, *SERVE, VLA_SHUTDOWN_GRACE_S="0") as (url, process, lines), ThreadPoolExecutor() as threads:
        wait_until_healthy(url)
        answer = threads.submit(httpx.post, f"{url}/predict", json={**PICTURE, "seed": 600_000}, timeout=DEADLINE_S)
        time.sleep(0.5)
        workers = workers_of(process)
        assert ended_by(process, signal.SIGTERM) == 0
        assert answer.result().status_code == 503
    assert any("is killed" in line for line in lines)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers))

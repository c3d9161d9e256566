"""Thousands of connections that say nothing, a machine with few descriptors, a server that is paused."""

import resource
import signal
import socket
import time
from contextlib import ExitStack, closing

import httpx
import numpy as np
import pytest
from echo_server import of_one_colour, wait_until_healthy
from processes import resident_mb
from programs import limited
from raw_socket import connected, post, rest_of, status_of
from test_uvicorn import SERVE, running

from vla_server_base.scenes.library import bundled_scene
from vla_server_base.testing.protocol_robots import OpenpiRobot

NUM_IDLE = 10_000
LIMITS = ("HEAD", "BODY", "READER", "SCENE")
PICTURE = {"instruction": "go", "image": of_one_colour(255, 0, 0), "seed": 0}
SCENE = {"instruction": "go", "xml_string": bundled_scene("widowx", "tabletop"), "seed": 0}
IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def many_descriptors():
    """As many descriptors as this test needs itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NUM_IDLE + 500:
        pytest.skip(f"ulimit -Hn is {hard}, and the test opens {NUM_IDLE} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (NUM_IDLE + 500, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_robot_beside_ten_thousand_idle_connections_gets_its_answers(folder, many_descriptors):
    room = {"VLA_MAX_SOCKETS": "20000", "VLA_MAX_SOCKETS_PER_CLIENT": "20000", "VLA_HEAD_TIMEOUT_S": "600"}
    with running(folder, *limited(NOFILE=16_000), **room) as (url, process, _), ExitStack() as stack:
        wait_until_healthy(url)
        robot = stack.enter_context(closing(OpenpiRobot(url)))
        before_mb = resident_mb(process.pid)
        for number in range(NUM_IDLE):
            stack.enter_context(connected(url, at=f"127.0.0.{2 + number % 4}"))
            if number % 100 == 0:  # or the kernel drops some that nobody has accepted yet
                assert httpx.get(f"{url}/live").status_code == 200
        assert [len(robot.act(IMAGE, "go")) for _ in range(20)] == [7] * 20
        assert httpx.post(f"{url}/predict", json=PICTURE).status_code == 200
        assert resident_mb(process.pid) - before_mb < 200


def test_with_64_descriptors_images_and_scenes_are_answered_beside_100_connections(folder):
    with running(folder, *limited(NOFILE=64)) as (url, _, _), ExitStack() as stack:
        wait_until_healthy(url)
        for _ in range(100):
            stack.enter_context(connected(url))
        assert httpx.post(f"{url}/predict", json=PICTURE).status_code == 200
        assert httpx.post(f"{url}/predict", json=SCENE, timeout=30).status_code == 200


def test_a_pause_of_the_process_ends_no_connection_no_session_and_no_scene(folder):
    short = {f"VLA_{name}_TIMEOUT_S": seconds for name, seconds in zip(LIMITS, "2223", strict=True)}
    with running(folder, *SERVE, **short) as (url, process, _), ExitStack() as stack:
        wait_until_healthy(url)
        robot = stack.enter_context(closing(OpenpiRobot(url)))
        robot.begin(seed=3)
        robot.act(IMAGE, "go")
        body, wire = httpx.Request("POST", url, json=SCENE).read(), stack.enter_context(connected(url))
        wire.sendall(post("/predict", len(body), "Connection: close") + body)
        process.send_signal(signal.SIGSTOP)
        time.sleep(5)
        process.send_signal(signal.SIGCONT)
        assert status_of(rest_of(wire)) == 200
        assert len(robot.act(IMAGE, "go")) == 7
        (session,) = httpx.get(f"{url}/sessions").json()["sessions"]
        assert session["step"] == 2


def test_a_client_that_resets_its_connections_costs_nothing(folder):
    with running(folder, *SERVE) as (url, _, _):
        wait_until_healthy(url)
        for number in range(300):
            with connected(url) as wire:
                wire.sendall(post("/predict", 1000) + b"{" * (number % 2))
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        assert httpx.post(f"{url}/predict", json=PICTURE).status_code == 200
        assert httpx.get(f"{url}/load").json()["queue"]["waiting"] == 0

"""Robots of four protocols at one server: each gets what it gets alone, and mutated messages hurt nobody."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from echo_server import echo_app, wait_until_healthy
from free_port import free_port

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing.protocol_robots import Gr00tRobot, OpenpiRobot, OpenvlaRobot, VlaEvalRobot

NUM_STEPS = 50


@pytest.fixture(scope="module")
def server():
    """A server's URL, and its port for GR00T's clients."""
    port = free_port()
    with serving(echo_app(zmq_port=port)) as url:
        wait_until_healthy(url)
        yield url, port


def robots(url: str, port: int) -> list:
    """Two robots of each protocol, by what makes them."""
    return [
        *(lambda: OpenpiRobot(url) for _ in range(2)),
        *(lambda: VlaEvalRobot(url) for _ in range(2)),
        *((lambda name=f"arm-{number}": OpenvlaRobot(url, name)) for number in range(2)),
        *(lambda: Gr00tRobot(port) for _ in range(2)),
    ]


def episode(make, seed: int) -> np.ndarray:
    """The actions of a robot that sees its own picture at each step, and is told something else half-way."""
    with closing(make()) as robot:
        robot.begin(seed)
        pictures = np.random.default_rng(seed).integers(0, 255, (NUM_STEPS, 8, 8, 3), np.uint8)
        said = ["lift it" if step < NUM_STEPS / 2 else f"put it on {seed}" for step in range(NUM_STEPS)]
        return np.array([robot.act(*seen) for seen in zip(pictures, said, strict=True)], np.float32)


def test_eight_robots_of_four_protocols_at_once_get_what_each_gets_alone(server):
    made = robots(*server)
    alone = [episode(make, seed) for seed, make in enumerate(made)]
    with ThreadPoolExecutor(len(made)) as threads:
        together = list(threads.map(episode, made, range(len(made))))
    np.testing.assert_array_equal(together, alone)
    assert len(np.unique(np.array(alone)[:, 0], axis=0)) == len(made), "each has noise of its own"


def test_a_robot_gets_the_same_by_every_protocol(server):
    found = [episode(make, seed=11) for make in robots(*server)[::2]]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])

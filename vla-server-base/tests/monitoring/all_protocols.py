"""Real traffic of every protocol, good and refused, so that a server has something to tell."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy
from free_port import free_port
from required_inputs_robots import ROBOTS, Ports, Refused, Seen

from vla_server_base.server.uvicorn_server import serving

SEEN = Seen(images={"primary": np.full((8, 8, 3), 90, np.uint8)}, instruction="go")
NOTHING_SEEN = Seen(images={}, instruction="go")
SCENE = """<mujoco><worldbody><light pos="0 0 2"/><geom type="plane" size="1 1 0.1"/>
<camera name="primary" pos="0.8 0 0.8" xyaxes="0 1 0 -0.7 0 0.7"/></worldbody></mujoco>"""
PREDICT = {"instruction": "go", "image": of_one_colour(90, 90, 90)}


@contextmanager
def serving_all(adapter=None, **settings) -> Iterator[Ports]:
    """A healthy server that speaks all protocols."""
    zmq_port, lerobot_port = free_port(), free_port()
    with serving(echo_app(adapter, zmq_port=zmq_port, lerobot_port=lerobot_port, **settings)) as url:
        wait_until_healthy(url)
        yield Ports(url=url, zmq=zmq_port, lerobot=lerobot_port)


def send_traffic(ports: Ports) -> None:
    """Have a robot of every protocol act twice and be refused once; then scenes, gaps, and a missed deadline."""
    for kind in ROBOTS.values():
        robot = kind(ports)
        for _ in range(2):
            robot.act(SEEN)
        with pytest.raises(Refused):
            robot.act(NOTHING_SEEN)
        robot.close()
    with httpx.Client(base_url=ports.url, timeout=60) as client:
        for _ in range(2):
            client.post("/predict", json={"instruction": "go", "xml_string": SCENE}).raise_for_status()
        client.post("/predict", json=PREDICT).raise_for_status()
        for sequence in (0, 3):
            client.post("/predict", json={**PREDICT, "session_id": "a", "sequence": sequence}).raise_for_status()
        assert client.post("/predict", json={**PREDICT, "deadline_ms": 0.001}).status_code == 504
        assert client.get("/nowhere").status_code == 404

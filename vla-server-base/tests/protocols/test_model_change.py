"""Robots of every protocol while another model takes over: each stays on its own until its session ends."""

from collections.abc import Mapping
from contextlib import ExitStack, closing

import numpy as np
from free_port import free_port
from required_inputs_robots import ROBOTS, DoorRobot, Ports, Seen
from several_models import Lab

# The others name their sessions, and so has tests/server/test_models.py.
CONNECTED = {name: ROBOTS[name] for name in ("openpi", "vla-eval", "gr00t", "lerobot")}
SEEN = Seen(images={"primary": np.full((8, 8, 3), 90, np.uint8)}, instruction="go")


def models_of(robots: Mapping[str, DoorRobot]) -> dict[str, float]:
    """The number of the model that answers each robot."""
    return {name: float(robot.act(SEEN)[0]) for name, robot in robots.items()}


def test_a_robot_keeps_its_model_until_its_session_ends_and_a_new_one_gets_the_new_model():
    zmq_port, lerobot_port = free_port(), free_port()
    with Lab(zmq_port=zmq_port, lerobot_port=lerobot_port).open() as lab, ExitStack() as stack:
        ports = Ports(url=lab.url, zmq=zmq_port, lerobot=lerobot_port)

        def connected() -> dict[str, DoorRobot]:
            return {name: stack.enter_context(closing(kind(ports))) for name, kind in CONNECTED.items()}

        old = connected()
        assert models_of(old) == dict.fromkeys(CONNECTED, 1.0)
        lab.bring_up(2)
        new = connected()
        assert models_of(new) == dict.fromkeys(CONNECTED, 2.0)
        assert models_of(old) == dict.fromkeys(CONNECTED, 1.0)
        old["lerobot"].begin()  # a client of LeRobot's ends its session so
        assert models_of(old) == {**dict.fromkeys(CONNECTED, 1.0), "lerobot": 2.0}
        for session in lab.client.get("/sessions").json()["sessions"]:
            lab.client.delete(f"/sessions/{session['id']}").raise_for_status()
        assert models_of(old) == dict.fromkeys(CONNECTED, 2.0)

"""A request of every protocol counts as in flight while it is answered: others may have to wait for it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from echo_server import echo_app, wait_until, wait_until_healthy
from free_port import free_port
from required_inputs_robots import ROBOTS, Ports, Seen
from test_engine import GatedEcho

from vla_server_base.server.uvicorn_server import serving

SEEN = Seen(images={"primary": np.full((8, 8, 3), 90, np.uint8)}, instruction="go")


@pytest.mark.parametrize("protocol", ROBOTS)
def test_a_request_of_every_protocol_counts_while_it_is_answered(protocol):
    zmq_port, lerobot_port, adapter = free_port(), free_port(), GatedEcho()
    app = echo_app(adapter, zmq_port=zmq_port, lerobot_port=lerobot_port)
    with serving(app) as url, ThreadPoolExecutor(1) as threads:
        wait_until_healthy(url)
        in_flight = app.state.service.precedence._in_flight
        robot = ROBOTS[protocol](Ports(url=url, zmq=zmq_port, lerobot=lerobot_port))
        acting = threads.submit(robot.act, SEEN)
        try:
            assert adapter.entered.wait(30)
            assert list(in_flight) == [("127.0.0.1", "robot")]
        finally:
            adapter.gate.set()
        acting.result(30)
        wait_until(lambda: not in_flight)
        robot.close()

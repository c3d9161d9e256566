"""Eight robots over four protocols share one ACT: each gets, action by action, what it would get alone."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from lerobot.async_inference.helpers import RemotePolicyConfig, TimedObservation
from lerobot.transport import services_pb2
from lerobot.transport.services_pb2_grpc import AsyncInferenceStub
from lerobot.transport.utils import send_bytes_in_chunks
from lerobot_itself import TASK, LeRobotItself
from policy_requests import seen_by
from policy_servers import ask, body, free_port, served
from websockets.sync.client import connect

from vla_client.message_pack import pack, unpack
from vla_server_base.contract import Observation
from vla_server_base.protocols import json_numpy

NUM_STEPS, NUM_EXECUTED = 200, 8
MESSAGES: Any = services_pb2
Act = Callable[[int, Observation], list[np.ndarray]]
"""Of a robot: the actions to execute from a step on, and what it sees there."""


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def client(checkpoint, grpc_port, tmp_path_factory):
    with served(checkpoint("act"), tmp_path_factory.mktemp("cache"), lerobot_port=grpc_port) as client:
        yield client


def test_eight_robots_over_four_protocols_get_what_each_gets_alone(client, grpc_port, adapter_of, checkpoint):
    spec, itself = adapter_of("act").spec, LeRobotItself(checkpoint("act"))
    url = str(client.base_url)
    ways = [partial(way, client) for way in (over_predict, over_act)]
    ways += [partial(over_openpi, url), partial(over_lerobot, grpc_port)]
    robots = [(number, ways[number % 4]) for number in range(8)]

    def run(robot) -> list[np.ndarray]:
        number, way = robot
        executed: list[np.ndarray] = []
        with way(number) as act:
            while len(executed) < NUM_STEPS:
                executed += act(len(executed), seen_by(spec, 1000 * number + len(executed)))
        return executed

    with ThreadPoolExecutor(len(robots)) as threads:
        fleet = list(threads.map(run, robots))

    for number, executed in enumerate(fleet):
        starts = range(0, NUM_STEPS, NUM_EXECUTED)
        alone = [itself.chunk([seen_by(spec, 1000 * number + start)], seed=0)[:NUM_EXECUTED] for start in starts]
        assert np.array_equal(np.array(executed, np.float32), np.concatenate(alone)), number


@contextmanager
def over_predict(client, number: int) -> Iterator[Act]:
    """A robot of POST /predict, in a session."""
    yield lambda step, seen: [ask(client, body(seen, TASK, session_id=f"predict-{number}", seed=number))["action"]]


@contextmanager
def over_act(client, number: int) -> Iterator[Act]:
    """A robot of OpenVLA's /act."""

    def act(step: int, seen: Observation) -> list[np.ndarray]:
        message = {**named(seen), "instruction": TASK, "session_id": f"act-{number}"}
        return [json_numpy.loads(client.post("/act", content=json_numpy.dumps(message)).raise_for_status().text)]

    yield act


@contextmanager
def over_openpi(url: str, number: int) -> Iterator[Act]:
    """A robot of openpi's WebSocket: it executes part of each chunk."""
    del number
    with connect(url.replace("http", "ws", 1), compression=None, max_size=None) as socket:
        socket.recv(60)

        def act(step: int, seen: Observation) -> list[np.ndarray]:
            socket.send(pack({**named(seen), "prompt": TASK}))
            return list(unpack(socket.recv(60))["actions"][:NUM_EXECUTED])

        yield act


@contextmanager
def over_lerobot(port: int, number: int) -> Iterator[Act]:
    """A robot of LeRobot's gRPC, with LeRobot's own messages: it executes part of each chunk."""
    del number
    motors = [f"motor_{index}.pos" for index in range(8)]
    features: dict[str, Any] = {"observation.state": {"dtype": "float32", "shape": (8,), "names": motors}}
    setup = RemotePolicyConfig("act", "not-loaded", features, NUM_EXECUTED, "cpu")
    # Robots in one process would otherwise share a connection, and so be one robot.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with closing(grpc.insecure_channel(f"127.0.0.1:{port}", options)) as channel:
        stub = AsyncInferenceStub(channel)
        stub.Ready(MESSAGES.Empty())
        stub.SendPolicyInstructions(MESSAGES.PolicySetup(data=pickle.dumps(setup)))

        def act(step: int, seen: Observation) -> list[np.ndarray]:
            state = dict(zip(motors, seen.proprio.tolist(), strict=True))
            observation = TimedObservation(
                timestamp=float(step), timestep=step, observation={**state, **seen.images, "task": TASK}, must_go=True
            )
            stub.SendObservations(send_bytes_in_chunks(pickle.dumps(observation), MESSAGES.Observation))
            # As LeRobot's client does: a server that has no actions yet answers with none.
            answers = (stub.GetActions(MESSAGES.Empty()).data for _ in range(1000))
            actions = pickle.loads(next(filter(None, answers)))
            assert [each.timestep for each in actions] == list(range(step, step + NUM_EXECUTED))
            return [each.get_action().numpy() for each in actions]

        yield act


def named(seen: Observation) -> dict[str, Any]:
    """Return an observation under the names of LeRobot's data sets."""
    images = {f"observation.images.{name}": image for name, image in seen.images.items()}
    return {**images, "observation.state": seen.proprio}

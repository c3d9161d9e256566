# /// script
# requires-python = ">=3.10"
# dependencies = ["lerobot[async]"]
# ///
"""LeRobot's own RobotClient runs an episode with an arm that is none, and is told of what is refused."""

import argparse
import importlib.metadata
import math
import os
import pickle
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# ruff: noqa: E402
# LeRobot's client makes a folder of logs where it is when it is imported.
os.chdir(tempfile.mkdtemp())

import grpc
import numpy as np
from lerobot.async_inference.configs import RobotClientConfig
from lerobot.async_inference.helpers import TimedAction, TimedObservation
from lerobot.async_inference.robot_client import RobotClient
from lerobot.robots import Robot, RobotConfig
from lerobot.transport import services_pb2
from lerobot.transport.utils import send_bytes_in_chunks

MOTORS = tuple(f"joint_{number}.pos" for number in range(7))
CAMERAS = ("primary", "wrist")
# More than one chunk of 2 MiB in all.
HEIGHT, WIDTH = 720, 1280
EPISODE_S = 120.0


@RobotConfig.register_subclass("paper_arm")
@dataclass(kw_only=True)
class PaperArmConfig(RobotConfig):
    """An arm of seven motors, the first `num_read` of which can be read, and two cameras."""

    num_read: int


class PaperArm(Robot):
    """Sees grey images, half as bright at the wrist, and writes down what it is to do."""

    config_class = PaperArmConfig
    name = "paper_arm"
    is_calibrated = True
    is_connected = True

    def __init__(self, config: PaperArmConfig):
        super().__init__(config)
        self.actions: list[dict[str, float]] = []
        self._read = MOTORS[: config.num_read]
        self._num_seen = 0

    @property
    def observation_features(self) -> dict:
        return dict.fromkeys(self._read, float) | dict.fromkeys(CAMERAS, (HEIGHT, WIDTH, 3))

    @property
    def action_features(self) -> dict:
        return dict.fromkeys(MOTORS, float)

    def get_observation(self) -> dict:
        self._num_seen += 1
        brightness = 20 + 2 * (self._num_seen % 100)
        images = {"primary": brightness, "wrist": brightness // 2}
        motors = {motor: np.float32(0.01 * len(self.actions)) for motor in self._read}
        return motors | {camera: np.full((HEIGHT, WIDTH, 3), grey, np.uint8) for camera, grey in images.items()}

    def send_action(self, action: dict) -> dict:
        self.actions.append(action)
        return action

    def connect(self, calibrate: bool = True) -> None:
        """There is nothing to connect."""

    def calibrate(self) -> None:
        """There is nothing to calibrate."""

    def configure(self) -> None:
        """There is nothing to configure."""

    def disconnect(self) -> None:
        """There is nothing to disconnect."""


class WatchedClient(RobotClient):
    """LeRobot's client, which also keeps what came."""

    def __init__(self, config: RobotClientConfig):
        super().__init__(config)
        self.chunks: list[list[TimedAction]] = []

    def _aggregate_action_queues(self, incoming_actions, aggregate_fn=None) -> None:
        self.chunks.append(incoming_actions)
        super()._aggregate_action_queues(incoming_actions, aggregate_fn)


def main() -> None:
    """Run an episode, then send what is to be refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--proprio", type=int, default=3, help="numbers of its own state that the policy takes")
    asked = parser.parse_args()
    config = RobotClientConfig(
        policy_type="act",
        pretrained_name_or_path="nobody/this-model-is-not-loaded",
        robot=PaperArmConfig(num_read=asked.proprio, calibration_dir=Path(tempfile.mkdtemp())),
        actions_per_chunk=50,
        task="lift the red block",
        server_address=f"127.0.0.1:{asked.port}",
    )
    client = WatchedClient(config)
    assert client.start(), "the server did not take the policy's setup"
    run_episode(client, asked.steps)
    check_chunks(client.chunks)
    check_refusals(client)
    client.stop()
    print(f"lerobot {importlib.metadata.version('lerobot')}")
    print(f"{len(client.robot.actions)} actions of {len(client.chunks)} chunks; what was refused was told")


def run_episode(client: WatchedClient, num_steps: int) -> None:
    """Let the client's two threads run until the arm has done so many actions."""
    receiving = threading.Thread(target=client.receive_actions, daemon=True)
    controlling = threading.Thread(target=client.control_loop, args=(client.config.task,), daemon=True)
    receiving.start()
    controlling.start()
    deadline = time.monotonic() + EPISODE_S
    while len(client.robot.actions) < num_steps and time.monotonic() < deadline:
        time.sleep(0.01)
    client.shutdown_event.set()
    controlling.join(timeout=10)
    receiving.join(timeout=10)
    assert not controlling.is_alive(), "the control loop did not end"
    assert not receiving.is_alive(), "the loop that receives actions did not end"
    actions = client.robot.actions
    assert len(actions) >= num_steps, f"{len(actions)} of {num_steps} actions within {EPISODE_S} s"
    assert all(math.isfinite(number) for action in actions for number in action.values()), "an action is not finite"


def check_chunks(chunks: list[list[TimedAction]]) -> None:
    """See that each chunk counts on from a timestep, and begins no earlier than the one before."""
    firsts = [chunk[0].get_timestep() for chunk in chunks]
    assert firsts == sorted(firsts), f"chunks begin at {firsts}"
    for first, chunk in zip(firsts, chunks, strict=True):
        assert [action.get_timestep() for action in chunk] == list(range(first, first + len(chunk)))
        times = [action.get_timestamp() for action in chunk]
        assert times == sorted(times), "a chunk's times do not count on"
        actions = np.array([action.get_action().numpy() for action in chunk])
        assert actions.shape == (len(chunk), len(MOTORS)), actions.shape
        # EchoAdapter's first number is how bright the camera `primary` is, its fourth how bright the camera `wrist` is.
        assert np.allclose(actions[:, 0], 2 * actions[:, 3]), "the policy saw other images than the robot"


class Payload:
    """What anyone could send."""

    def __reduce__(self):
        return os.mkdir, (os.path.join(os.getcwd(), "made-by-the-server"),)


def check_refusals(client: WatchedClient) -> None:
    """Send what must be refused, and see that the reason comes back."""
    no_image = TimedObservation(timestamp=time.time(), timestep=10**6, observation={"task": "go"}, must_go=True)
    for sent, said in ((no_image, "there is no image"), (Payload(), "mkdir")):
        error = refusal(client, sent)
        assert error is not None, f"a request that must be refused was accepted ({said})"
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        assert said in (error.details() or ""), error
    assert not os.path.exists("made-by-the-server"), "the server ran what a client sent"


def refusal(client: WatchedClient, sent: object) -> grpc.RpcError | None:
    """Send something pickled, and return the error that it is answered with."""
    try:
        client.stub.SendObservations(send_bytes_in_chunks(pickle.dumps(sent), services_pb2.Observation))
    except grpc.RpcError as error:
        return error
    return None


if __name__ == "__main__":
    main()

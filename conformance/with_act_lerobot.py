# /// script
# requires-python = ">=3.12"
# dependencies = ["lerobot[async]"]
# ///
"""LeRobot's own RobotClient runs episodes of ACT: no timestep is left out, each chunk is as of POST /predict."""

import importlib.metadata
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import torch
from act_robot import CAMERAS, HORIZON, MOTORS, STATE, Seen, arguments, predicted, seen_at

# It changes the working directory before LeRobot's client, which writes logs there, is imported.
from with_lerobot import PaperArm, PaperArmConfig, WatchedClient, refusal, run_episode  # isort: split

from lerobot.async_inference.configs import RobotClientConfig
from lerobot.async_inference.helpers import TimedObservation
from lerobot.robots import RobotConfig


@RobotConfig.register_subclass("joint_arm")
@dataclass(kw_only=True)
class JointArmConfig(PaperArmConfig):
    """An arm with the policy's cameras, motors and lift."""

    num_read: int = len(MOTORS)


class JointArm(PaperArm):
    """Sees noise, and names the numbers of its state in an order that is not the policy's."""

    config_class = JointArmConfig
    name = "joint_arm"

    @property
    def observation_features(self) -> dict:
        return dict.fromkeys(reversed(STATE), float) | dict.fromkeys(CAMERAS, (120, 160, 3))

    def get_observation(self) -> dict:
        self._num_seen += 1
        return by_name(seen_at(self._num_seen))


class CountingClient(WatchedClient):
    """LeRobot's client, which also keeps what it saw and executed, and how often it had nothing to execute."""

    def __init__(self, config: RobotClientConfig):
        super().__init__(config)
        self.seen: dict[float, dict] = {}
        self.timesteps: list[int] = []
        self.num_refused = 0
        self.num_waits = 0

    def send_observation(self, obs: TimedObservation) -> bool:
        self.seen[obs.get_timestamp()] = obs.get_observation()
        is_sent = super().send_observation(obs)
        self.num_refused += not is_sent
        return is_sent

    def actions_available(self) -> bool:
        is_available = super().actions_available()
        self.num_waits += bool(self.timesteps) and not is_available
        return is_available

    def control_loop_action(self, verbose: bool = False) -> dict:
        performed = super().control_loop_action(verbose)
        self.timesteps.append(self.latest_action)
        return performed


def main() -> None:
    """Run an episode with two of LeRobot's aggregate functions, then leave out a camera and the state."""
    parser = arguments(__doc__)
    parser.add_argument("--aligned", action="store_true", help="the server's chunks continue the last one")
    asked = parser.parse_args()
    print(f"lerobot {importlib.metadata.version('lerobot')}")
    for aggregate in ("weighted_average", "latest_only"):
        client = CountingClient(config_for(asked.port, aggregate))
        assert client.start(), "the server did not take the policy's setup"
        run_episode(client, asked.steps)
        check_executed(client)
        check_chunks(client, asked.url, continued=asked.aligned)
        print(
            f"{aggregate}: {len(client.timesteps)} actions of {len(client.chunks)} chunks, no refusal, no timestep left"
            f" out, {client.num_waits} ticks without an action, jumps of at most {largest_jump(client):.3f}"
        )
        for missing in (*CAMERAS, "state"):
            check_refused(client, missing)
        client.stop()


def config_for(port: int, aggregate: str) -> RobotClientConfig:
    """Return what LeRobot's command line would make, with its default threshold of half a chunk."""
    return RobotClientConfig(
        policy_type="act",
        pretrained_name_or_path="nobody/this-model-is-not-loaded",
        robot=JointArmConfig(calibration_dir=Path(tempfile.mkdtemp())),
        actions_per_chunk=HORIZON,
        server_address=f"127.0.0.1:{port}",
        aggregate_fn_name=aggregate,
    )


def check_executed(client: CountingClient) -> None:
    """See that all timesteps were executed, as aggregated.

    The client may do one twice: it takes a step from the queue while another thread replaces the queue.
    """
    assert client.num_refused == 0, f"{client.num_refused} observations were refused"
    steps = sorted(set(client.timesteps))
    assert (client.timesteps, steps) == (sorted(client.timesteps), list(range(len(steps)))), (
        f"executed {client.timesteps}"
    )
    rows: dict[int, list[torch.Tensor]] = {}
    for chunk in client.chunks:
        for action in chunk:
            rows.setdefault(action.get_timestep(), []).append(action.get_action())
    for timestep, executed in zip(client.timesteps, client.robot.actions, strict=True):
        numbers = np.array([executed[motor] for motor in MOTORS])
        # Chunks that came after it was executed do not count.
        aggregated = itertools.accumulate(rows[timestep], client.config.aggregate_fn)
        assert any(np.array_equal(numbers, each.tolist()) for each in aggregated), f"timestep {timestep}: {numbers}"


def check_chunks(client: CountingClient, url: str, *, continued: bool) -> None:
    """See that each chunk is what POST /predict answers, but for first rows that the last chunk had, if continued."""
    last: dict[int, np.ndarray] = {}
    num_old = []
    for chunk in client.chunks:
        rows = {action.get_timestep(): action.get_action().numpy() for action in chunk}
        new = predicted(url, seen_of(client.seen[chunk[0].get_timestamp()]))
        is_new = [np.array_equal(row, own) for row, own in zip(rows.values(), new, strict=True)]
        is_old = [timestep in last and np.array_equal(row, last[timestep]) for timestep, row in rows.items()]
        num_old.append(is_new.index(True))
        assert all(is_new[num_old[-1] :]), "a chunk is not what was predicted"
        assert all(is_old[: num_old[-1]]), "a chunk does not continue the last one"
        last = rows
    assert any(num_old) == continued, f"{num_old} rows of chunks are of the last chunk"


def largest_jump(client: CountingClient) -> float:
    """Return the largest change of a motor between two actions."""
    executed = np.array([[action[motor] for motor in MOTORS] for action in client.robot.actions])
    return float(np.abs(np.diff(executed, axis=0)).max())


def check_refused(client: CountingClient, missing: str) -> None:
    """See that LeRobot's client is told what is missing."""
    whole = by_name(seen_at(0)) | {"task": client.config.task}
    dropped = STATE if missing == "state" else (missing,)
    lacking = {name: value for name, value in whole.items() if name not in dropped}
    sent = TimedObservation(timestamp=time.time(), timestep=10**6, observation=lacking, must_go=True)
    error = refusal(client, sent)
    assert error is not None, f"an observation without {missing} was not refused"
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    assert missing in (error.details() or ""), error


def by_name(seen: Seen) -> dict:
    """Return an observation as LeRobot's robots have it."""
    state = dict(zip(STATE, seen.state.tolist(), strict=True))
    return {name: state[name] for name in reversed(STATE)} | seen.images


def seen_of(raw: dict) -> Seen:
    """Return an observation of LeRobot's robots in the policy's order."""
    images = {camera: raw[camera] for camera in CAMERAS}
    return Seen(images=images, state=np.array([raw[name] for name in STATE], np.float32))


if __name__ == "__main__":
    main()

"""`replay`: a recording's steps once more, each bit compared."""

import time
from contextlib import closing

import numpy as np
from echo_server import encoded
from recorded_sessions import messages, noise_image, recording_server, replayed, take_step, wait_until_written

from vla_client import Policy
from vla_server_base.recordings.reader import read_turns, recording_files
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.echo import JointEcho
from vla_server_base.testing.protocol_robots import OpenpiRobot, VlaEvalRobot

EXECUTIONS = {
    "receding": {},
    "chunk": {"execution": "chunk", "execution_horizon": 3},
    "ensemble": {"execution": "ensemble", "ensemble_weight": 0.3},
    "aligned": {"execution": "aligned", "inference_delay": 2},
    "blended": {"execution": "blended", "execution_horizon": 3, "inference_delay": 1},
    "other_units": {"dataset": "echo_doubled", "action_format": "ee_delta"},
}
GOAL = {"primary": encoded(noise_image(1000))}


class OtherEcho(EchoAdapter):
    """An echo with another weight in its last number."""

    def predict(self, batch):
        return [chunks + np.float64(2**-40) for chunks in super().predict(batch)]


def drive(client, session: str, num_steps: int, **first) -> None:
    """A robot: one episode, of which `first` says how it begins."""
    for number in range(num_steps):
        proprio = np.random.default_rng(number).normal(size=3).tolist()
        take_step(client, session, number, proprio=proprio, **(first if number == 0 else {}))


def test_every_execution_is_replayed_bit_for_bit(tmp_path, capsys):
    with recording_server(tmp_path) as client:
        for session, settings in EXECUTIONS.items():
            drive(client, session, 9, seed=4, reset=True, **settings)
        wait_until_written(client)
        assert replayed(client, tmp_path) == 0
    num_turns = 9 * len(EXECUTIONS)
    assert f"turns        {num_turns}, of which {num_turns} are the same" in capsys.readouterr().out


def test_sessions_that_overlap_with_goals_resets_and_new_tasks_are_replayed(tmp_path, capsys):
    with recording_server(tmp_path) as client:
        for number in range(6):
            take_step(client, "one", number, seed=1, sequence=2 * number)
            take_step(client, "two", number + 50, goal_images=GOAL, instruction="" if number < 3 else "lift")
            take_step(client, "three/a:b", number + 90, reset=number == 4)
        wait_until_written(client)
        assert replayed(client, tmp_path) == 0
    assert "turns        18, of which 18 are the same" in capsys.readouterr().out


def test_another_policy_is_told_apart_by_its_numbers(tmp_path, capsys):
    with recording_server(tmp_path) as client:
        drive(client, "arm", 3)
    with recording_server(tmp_path, OtherEcho(), record_sessions="none") as client:
        assert replayed(client, tmp_path) == 1
        assert replayed(client, tmp_path, tolerance=1e-9) == 0
    printed = capsys.readouterr().out
    assert "session arm turn 0 (step 0): action[0] (dx)" in printed
    assert "build        another one\n             code_sha256" in printed


def test_a_session_that_began_at_another_server_is_replayed_from_its_window(tmp_path, capsys):
    with recording_server(tmp_path, record_sessions="none") as client:
        first = take_step(client, "arm", 0, seed=7, execution="ensemble", return_token=True)
        token = first["session"]["token"]
    with recording_server(tmp_path) as client:
        take_step(client, None, 1, session_token=token)
        take_step(client, "arm", 2)
        wait_until_written(client)
        assert replayed(client, tmp_path) == 0
    assert "turns        2, of which 2 are the same" in capsys.readouterr().out


def test_without_the_servers_key_a_session_that_had_begun_is_left_out(tmp_path, capsys):
    with recording_server(tmp_path, record_sessions="none") as client:
        token = take_step(client, "arm", 0, return_token=True)["session"]["token"]
    with recording_server(tmp_path) as client:
        take_step(client, None, 1, session_token=token)
        drive(client, "arm", 2, reset=True)
        wait_until_written(client)
        (tmp_path / "cache" / "session.key").unlink()
        assert replayed(client, tmp_path) == 1
    assert "left out     1, as the server lacks their session's state" in capsys.readouterr().out


def test_the_last_file_of_a_rotated_recording_is_replayed_alone(tmp_path, capsys):
    with recording_server(tmp_path, record_file_mb=1) as client:
        for number in range(12):
            images = {"primary": encoded(noise_image(number, 224, 224))}
            take_step(client, "arm", images=images, seed=2, execution="ensemble" if number == 0 else None)
        wait_until_written(client)
        *_, last = recording_files([tmp_path / "recordings"])
        assert replayed(client, tmp_path, files=(last,)) == 0
    assert "/arm/state" in messages(tmp_path)


def test_steps_after_a_refused_one_are_replayed(tmp_path):
    with recording_server(tmp_path) as client:
        take_step(client, "arm", 0, seed=1, execution="ensemble")
        body = {"instruction": "go", "images": {"primary": encoded(noise_image(1))}, "session_id": "arm"}
        assert client.post("/predict", json=body | {"deadline_ms": 1e-3}).status_code == 504
        for number in range(2, 5):
            take_step(client, "arm", number)
        wait_until_written(client)
        assert replayed(client, tmp_path) == 0


def test_what_was_recorded_of_a_websocket_is_replayed_over_http(tmp_path, capsys):
    with recording_server(tmp_path, JointEcho()) as client:
        url = str(client.base_url).replace("http", "ws")
        with Policy(url, session_id="arm", seed=3) as policy:
            for number in range(5):
                images = {name: noise_image(number, 48, 64) for name in ("top", "left_wrist")}
                policy.act(images, proprio=np.random.default_rng(number).normal(size=8).astype(np.float32))
        wait_until_written(client)
        assert replayed(client, tmp_path) == 0
    assert "turns        5, of which 5 are the same" in capsys.readouterr().out


def drive_sockets(client) -> None:
    """Robots on WebSockets: of each execution, with delays that the server measures, and of those without a session."""
    url = str(client.base_url)
    for execution in ("receding", "chunk", "ensemble", "aligned", "blended"):
        settings = {"seed": 4, "execution": execution, "control_hz": 100}
        with Policy(url.replace("http", "ws"), session_id=execution, **settings) as policy:
            for number in range(9):
                time.sleep(0.004 * (number % 4))
                policy.act(noise_image(number), "go", proprio=np.random.default_rng(number).normal(size=3))
                if number == 5:
                    policy.reset()
    for robot in (OpenpiRobot(url), VlaEvalRobot(url)):
        with closing(robot):
            for number in range(6):
                if number % 3 == 0:
                    robot.begin(seed=number)
                robot.act(noise_image(number), "go" if number < 5 else "lift", wrist=noise_image(number + 50))


def test_what_was_recorded_of_every_websocket_is_replayed_bit_for_bit(tmp_path, capsys):
    with recording_server(tmp_path) as client:
        drive_sockets(client)
        wait_until_written(client)
        assert replayed(client, tmp_path) == 0
    assert "sessions     7\nturns        57, of which 57 are the same" in capsys.readouterr().out


def test_turns_are_read_in_the_order_in_which_they_were_answered(tmp_path):
    with recording_server(tmp_path) as client:
        for number in range(4):
            take_step(client, f"arm-{number % 2}", number)
    turns = read_turns(recording_files([tmp_path / "recordings"]))
    assert [(turn.session_id, turn.message.turn) for turn in turns] == [
        ("arm-0", 0),
        ("arm-1", 0),
        ("arm-0", 1),
        ("arm-1", 1),
    ]

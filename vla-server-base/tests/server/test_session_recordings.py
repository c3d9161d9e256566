"""VLA_RECORD: what a robot was answered, in files that the library mcap reads alone."""

import logging
import os
import shutil
import signal

import httpx
import numpy as np
import pytest
from echo_server import echo_app, encoded, wait_until, wait_until_healthy
from exposed_metrics import value
from mcap.reader import make_reader
from recorded_sessions import (
    messages,
    noise_image,
    pixels,
    recording,
    recording_server,
    take_step,
    wait_until_written,
)
from test_uvicorn import OURS, SERVE, folder, running

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.recordings.reader import read_turns, recording_files

__all__ = ["folder"]

NO_LARGE_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"


def test_nothing_is_recorded_by_default(client):
    assert recording(client) is None


def test_a_step_is_recorded_with_its_pixels_and_its_actions_to_the_last_bit(tmp_path):
    with recording_server(tmp_path) as client:
        reply = take_step(client, "arm", 7, seed=5, proprio=[0.1, 2 / 3, 1e-300])
    by_topic = messages(tmp_path)
    (step,), (image,) = by_topic["/arm/step"], by_topic["/arm/images/primary"]
    np.testing.assert_array_equal(pixels(image), noise_image(7))
    assert (step["action"], step["actions"]) == (reply["action"], reply["actions"])
    assert (step["seed"], step["step"], step["proprio"]) == (5, 0, [0.1, 2 / 3, 1e-300])
    assert (step["request_id"], step["protocol"]) == (reply["request_id"], "http")


def test_a_file_says_what_answered(tmp_path):
    with recording_server(tmp_path) as client:
        take_step(client, "arm")
        info = client.get("/info").json()
    (server,) = messages(tmp_path)["/server"]
    assert server == info


def test_images_have_the_schema_that_foxglove_shows_and_the_file_an_index(tmp_path):
    with recording_server(tmp_path) as client:
        take_step(client, "arm", goal_images={"primary": encoded_goal()})
    (path,) = recording_files([tmp_path / "recordings"])
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    schemas = {summary.schemas[each.schema_id].name for each in summary.channels.values() if "/images/" in each.topic}
    assert schemas == {"foxglove.CompressedImage"}
    assert {each.topic for each in summary.channels.values()} >= {"/arm/goal/primary", "/arm/step", "/server"}


def encoded_goal() -> str:
    return encoded(noise_image(99))


@pytest.mark.parametrize("patterns", ["arm-*", "127.0.0.1/arm-?", "lab-* arm-1"])
def test_only_the_sessions_that_a_pattern_names_are_recorded(tmp_path, patterns):
    with recording_server(tmp_path, record_sessions=patterns) as client:
        for session in ("arm-1", "other"):
            take_step(client, session)
    assert {topic.split("/")[1] for topic in messages(tmp_path)} == {"arm-1", "server"}


def test_a_refusal_of_a_session_is_recorded_with_its_code_and_nothing_that_reached_no_session(tmp_path):
    with recording_server(tmp_path) as client:
        take_step(client, "arm", seed=1)
        take_step(client, None)
        assert client.post("/predict", json={"instruction": "go", "session_id": "arm"}).status_code == 422
        body = {"instruction": "go", "image": encoded_goal(), "session_id": "arm", "seed": 2}
        refused = client.post("/predict", json=body).json()
    assert messages(tmp_path).keys() == {"/server", "/arm/images/primary", "/arm/step", "/arm/refused"}
    (refusal,) = messages(tmp_path)["/arm/refused"]
    assert refusal["code"] == refused["error"]["code"] == "invalid_request"
    assert refusal["request_id"] == refused["request_id"]


def test_what_was_answered_before_a_kill_can_be_read(folder, tmp_path):
    with running(folder, *SERVE, VLA_RECORD=str(tmp_path / "recordings")) as (url, process, _):
        wait_until_healthy(url)
        with httpx.Client(base_url=url, timeout=30) as client:
            replies = [take_step(client, "arm", number, seed=3) for number in range(9)]
            wait_until_written(client)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    turns = list(read_turns(recording_files([tmp_path / "recordings"])))
    assert [list(turn.message.action) for turn in turns] == [reply["action"] for reply in replies]


def test_a_torn_file_is_read_up_to_where_it_is_torn(tmp_path):
    with recording_server(tmp_path) as client:
        for number in range(20):
            take_step(client, "arm", number)
    (path,) = recording_files([tmp_path / "recordings"])
    for size in range(path.stat().st_size // 2, path.stat().st_size, 97):
        torn = tmp_path / "torn.mcap"
        torn.write_bytes(path.read_bytes()[:size])
        turns = [turn.message.turn for turn in read_turns([torn])]
        assert turns == list(range(len(turns)))
        assert len(turns) >= 5


def test_files_are_ended_at_their_size_and_the_oldest_are_deleted(tmp_path):
    with recording_server(tmp_path, record_file_mb=1, record_mb=3) as client:
        for number in range(40):
            take_step(client, "arm", images={"primary": large_image(number)})
        wait_until_written(client)
        num_begun = recording(client)["num_files"]
        kept = sum(path.stat().st_size for path in recording_files([tmp_path / "recordings"]))
        assert metric(client, "vla_recording_bytes") == kept
        assert metric(client, "vla_recording_limit_bytes") == 3 * 2**20
        assert metric(client, "vla_recorded_steps_total") == 40
    files = recording_files([tmp_path / "recordings"])
    assert num_begun > len(files) > 1
    assert sum(path.stat().st_size for path in files) < 4 * 2**20
    assert [turn.message.turn for turn in read_turns(files)][-1] == 39


def metric(client: httpx.Client, name: str, **labels: str) -> float:
    return value(str(client.base_url), name, **labels)


def large_image(number: int) -> str:
    return encoded(noise_image(number, 224, 224))


def test_recordings_of_earlier_servers_count_until_they_are_deleted_and_those_of_others_are_left_alone(tmp_path):
    (tmp_path / "recordings").mkdir()
    for name in ("mine.mcap", "vla-earlier.mcap"):
        (tmp_path / "recordings" / name).write_bytes(bytes(3 * 2**20))
    with recording_server(tmp_path, record_file_mb=1, record_mb=1) as client:
        wait_until(lambda: metric(client, "vla_recording_bytes") == 3 * 2**20)
        take_step(client, "arm")
        wait_until_written(client)
        assert 0 < metric(client, "vla_recording_bytes") < 2**20
    assert (tmp_path / "recordings" / "mine.mcap").exists()
    assert not (tmp_path / "recordings" / "vla-earlier.mcap").exists()


@pytest.mark.parametrize("where", ["a file", "a folder that vanishes"])
def test_a_folder_that_cannot_be_written_to_stops_the_recording_and_no_robot(tmp_path, caplog, where):
    path = tmp_path / "recordings"
    if where == "a file":
        path.write_text("")
    with caplog.at_level(logging.ERROR), recording_server(tmp_path) as client:
        replies = [take_step(client, "arm")]
        if path.is_dir():
            wait_until_written(client)
            shutil.rmtree(path)
        replies += [take_step(client, "arm") for _ in range(3)]
        wait_until(lambda: recording(client)["state"] == "stopped")
        assert recording(client)["reason"] in ("File exists", "No such file or directory")
        num_lost = 4 if where == "a file" else 3
        assert (recording(client)["num_steps"], recording(client)["num_lost"]) == (4 - num_lost, num_lost)
        assert metric(client, "vla_recorded_steps_total") == 4 - num_lost
        assert metric(client, "vla_unrecorded_steps_total", reason="stopped") == num_lost
        assert metric(client, "vla_unrecorded_steps_total", reason="behind") == 0
    assert [reply["session"]["step"] for reply in replies] == [0, 1, 2, 3]
    assert sum("recording in" in record.message for record in caplog.records) == 1


def test_a_disk_that_is_full_stops_the_recording_and_leaves_what_was_written(folder, tmp_path):
    (folder / "ours.py").write_text(NO_LARGE_FILES + OURS)
    with running(folder, *SERVE, VLA_RECORD=str(tmp_path / "recordings")) as (url, *_):
        wait_until_healthy(url)
        with httpx.Client(base_url=url, timeout=30) as client:
            for number in range(6):
                take_step(client, "arm", images={"primary": large_image(number)})
            wait_until(lambda: recording(client)["state"] == "stopped")
            assert recording(client)["reason"] == "File too large"
            assert (recording(client)["num_steps"], recording(client)["num_lost"]) == (2, 4)
    turns = [turn.message.turn for turn in read_turns(recording_files([tmp_path / "recordings"]))]
    assert turns == [0, 1]


def test_a_file_that_would_never_fit_is_refused_at_start():
    with pytest.raises(ConfigError, match="VLA_RECORD_FILE_MB=64 is over VLA_RECORD_MB=8"):
        ServerConfig(record="somewhere", record_mb=8)


def test_steps_that_come_faster_than_they_can_be_written_are_counted_and_marked(tmp_path, monkeypatch):
    monkeypatch.setattr("vla_server_base.recordings.recorder.MAX_WAITING_STEPS", 0)
    with recording_server(tmp_path) as client:
        for number in range(3):
            take_step(client, "arm", number)
        assert recording(client)["num_lost"] == 3
        assert metric(client, "vla_unrecorded_steps_total", reason="behind") == 3
    assert [each["num_steps"] for each in messages(tmp_path)["/arm/lost"]] == [3]


def test_an_app_that_records_needs_no_folder_yet(tmp_path):
    echo_app(record=str(tmp_path / "deep" / "folder"))
    assert not (tmp_path / "deep").exists()

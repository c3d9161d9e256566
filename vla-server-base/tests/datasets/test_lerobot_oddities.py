"""Folders of LeRobot's that people edited or that other programs wrote: read where it is plain what is meant."""

import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_folders import KEY, VIDEO_TOLERANCE, change_info, change_rows, set_column, write, write_version_2
from recorded_episodes import assert_same, made_episode

from vla_server_base.datasets import Keys, open_dataset
from vla_server_base.datasets.lerobot_writer import LeRobotWriter
from vla_server_base.errors import DatasetError

DATA = "data/chunk-000/episode_{:06d}.parquet"


@pytest.fixture
def old(tmp_path, episodes):
    """Return a dataset of version 2.1 with three episodes."""
    return write_version_2(tmp_path / "old", episodes)


def tasks_as(folder, text):
    (folder / "meta/tasks.jsonl").write_bytes(text.encode())
    return folder


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"task_index": 0, "task": "open it"}\n\n\n', id="blank lines"),
        pytest.param('\n{\n  "task_index": 0,\n  "task": "open it"\n}\n', id="pretty-printed"),
        pytest.param('\ufeff{"task_index": 0, "task": "open it"}\r\n', id="written on Windows"),
        pytest.param('{"task_index": "0", "task": ["open it"], "by": "Ada"}', id="other types"),
    ],
)
def test_lists_that_were_edited_by_hand_are_read(old, text):
    assert open_dataset(tasks_as(old, text))[0].instruction == "open it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"task_index": 0, "task": "open it"}\n{"task_index": 1,\n"task": }',
            r"tasks\.jsonl, line 3: Expecting value",
        ),
        (
            '{"task_index": 0, "task": "open it"}\n{"task_index": 1}',
            r"tasks\.jsonl: entry 2: .*got \{'task_index': 1\}",
        ),
        ('{"task_index": 0, "task": 7}', r"tasks\.jsonl: entry 1: "),
        ("[]", r"tasks\.jsonl: entry 1: .*got \[\]"),
    ],
)
def test_damage_in_a_list_is_named_with_its_line(old, text, message):
    with pytest.raises(DatasetError, match=message) as error:
        open_dataset(tasks_as(old, text))
    assert "fix" in error.value.hint


def test_an_info_that_does_not_say_how_to_read_is_named(old):
    for change, message in {
        lambda info: info.pop("fps"): "lacks 'fps'",
        lambda info: info.update(fps=0): "expected fps to be a rate in Hz, got 0",
        lambda info: info.update(fps=None, features={}): "expected fps to be a rate in Hz, got None",
        lambda info: info.update(fps=5, features=[]): "expected 'features' to be an object",
    }.items():
        change_info(old, change)
        with pytest.raises(DatasetError, match=rf"info\.json.*{message}"):
            open_dataset(old)


def test_a_deleted_episode_of_version_2_is_left_out(old, episodes):
    (old / DATA.format(1)).unlink()
    with pytest.raises(DatasetError, match=r"episode_000001\.parquet is missing") as error:
        open_dataset(old)
    assert "episodes.jsonl" in error.value.hint
    lines = (old / "meta/episodes.jsonl").read_text().splitlines()
    (old / "meta/episodes.jsonl").write_text("\n".join([lines[2], "", lines[0]]))
    dataset = open_dataset(old)
    assert [dataset.name(index) for index in range(2)] == ["0", "2"]
    np.testing.assert_array_equal(dataset[1].actions, episodes[2].actions)
    (old / "meta/episodes.jsonl").unlink()
    assert [len(episode) for episode in open_dataset(old)] == [7, 12]


def test_a_deleted_episode_of_version_3_is_left_out(tmp_path, episodes):
    write(tmp_path, episodes)
    path = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path)
    pq.write_table(rows.take([0, 2]), path)
    (path.parent / "._file-000.parquet").write_bytes(b"what a file manager left")
    change_info(tmp_path, lambda info: info.update(total_episodes=2))
    dataset = open_dataset(tmp_path)
    for read, wanted in zip((episode for episode in dataset), (episodes[0], episodes[2]), strict=True):
        assert_same(read, wanted, VIDEO_TOLERANCE)
    assert dataset.name(1) == "2"


def test_an_empty_episode_is_left_out_with_a_warning(old, tmp_path, episodes, caplog):
    rows = pq.read_table(old / DATA.format(1))
    pq.write_table(rows.slice(0, 0), old / DATA.format(1))
    with caplog.at_level(logging.WARNING):
        assert [len(episode) for episode in open_dataset(old)] == [7, 12]
    assert "episode_000001.parquet, which has no timestep" in caplog.text
    write(tmp_path / "new", episodes)
    change_rows(tmp_path / "new/meta/episodes/chunk-000/file-000.parquet", "length", lambda _: [7, 0, 12])
    assert [len(episode) for episode in open_dataset(tmp_path / "new")] == [7, 12]


def test_optional_files_may_be_missing(old, tmp_path, episodes):
    (old / "meta/tasks.jsonl").unlink()
    assert open_dataset(old)[0].instruction == ""
    rows = [{"episode_index": 0, "tasks": ["push"]}]
    (old / "meta/episodes.jsonl").write_text("".join(json.dumps(row) for row in rows))
    change_info(old, lambda info: [info.pop(name) for name in ("data_path", "video_path", "chunks_size")])
    assert open_dataset(old)[0].instruction == "push"
    write(tmp_path / "new", episodes)
    (tmp_path / "new/meta/stats.json").unlink()
    (tmp_path / "new/meta/tasks.parquet").unlink()
    assert open_dataset(tmp_path / "new")[2].instruction == "pick up cube 0"


def test_tasks_in_a_table_with_other_columns_are_read(tmp_path, episodes):
    write(tmp_path, episodes)
    table = pa.table({"task_index": [1, 0], "difficulty": [3, 4], "__index_level_0__": ["first", "second"]})
    pq.write_table(table, tmp_path / "meta/tasks.parquet")
    assert [episode.instruction for episode in open_dataset(tmp_path)] == ["second", "first", "second"]


def test_other_columns_are_not_read(old, episodes):
    rows = pq.read_table(old / DATA.format(0))
    rows = rows.append_column("next.reward", pa.array([None] * 7)).append_column("note", pa.array(["?"] * 7))
    pq.write_table(rows, old / DATA.format(0))
    np.testing.assert_array_equal(open_dataset(old)[0].actions, episodes[0].actions)


def test_what_a_simulation_knows_is_read_under_its_earlier_key_too(old, episodes):
    rows = pq.read_table(old / DATA.format(0))
    names = ["observation.environment_state" if name == "environment_state" else name for name in rows.column_names]
    pq.write_table(rows.rename_columns(names), old / DATA.format(0))
    np.testing.assert_array_equal(open_dataset(old)[0].environment_state, episodes[0].environment_state)


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["a", "b", "c", "d", "e", "f", "g"], ("a", "b", "c", "d", "e", "f", "g")),
        (["a", "b"], ()),
        ({"motors": ["a", "b", "c", "d", "e", "f", "g"]}, ()),
        (None, ()),
    ],
)
def test_names_are_read_where_they_are_one_for_each_number(old, names, read):
    change_info(old, lambda info: info["features"]["action"].update(names=names))
    assert open_dataset(old)[0].action_names == read


@pytest.mark.parametrize("drift", [-0.49, 0.3, 0.49])
def test_timestamps_may_drift_by_less_than_half_a_frame(old, episodes, drift):
    change_rows(old / DATA.format(2), "timestamp", lambda times: np.array(times) + np.linspace(0, drift, 12) / 5)
    read = open_dataset(old)[2].images["primary"]
    assert np.abs(read.astype(int) - episodes[2].images["primary"]).mean() <= VIDEO_TOLERANCE


def test_without_timestamps_rows_follow_one_another_at_the_rate(old, episodes):
    rows = pq.read_table(old / DATA.format(2))
    pq.write_table(rows.drop_columns("timestamp"), old / DATA.format(2))
    read = open_dataset(old)[2].images["primary"]
    assert np.abs(read.astype(int) - episodes[2].images["primary"]).mean() <= VIDEO_TOLERANCE


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        (
            "timestamp",
            lambda v: [*v[:3], v[2], *v[4:]],
            "row 3 of the episode has the timestamp 0.4, which is not after",
        ),
        ("timestamp", lambda v: [*v[:3], float("nan"), *v[4:]], "row 3 of the episode has the timestamp nan"),
        ("timestamp", lambda v: [time * 2 for time in v], r"episode_000000\.mp4 has no frame at 1\.600 s"),
        ("action", lambda v: [*v[:4], [1.0] * 6, *v[5:]], r"action in row 4 of the episode: .*, got \[1\.0"),
        ("action", lambda v: [*v[:4], None, *v[5:]], "action in row 4 of the episode: .*, got None"),
        ("action", lambda v: [*v[:4], [float("nan")] * 7, *v[5:]], "actions: number 0 at timestep 4 is nan"),
        ("action", lambda v: ["up"] * 7, "action in row 0 of the episode: .*, got up"),
        ("task_index", lambda v: [9] * 7, "row 0 of the episode has task 9, which the file of tasks lacks"),
    ],
)
def test_damage_in_an_episode_is_named_with_its_row(old, column, change, message):
    change_rows(old / DATA.format(0), column, change)
    with pytest.raises(DatasetError, match=rf"episode 0 of .*{message}") as error:
        open_dataset(old)[0]
    assert error.value.hint


@pytest.mark.parametrize(
    "mark",
    [
        lambda feature: feature["info"].update({"is_depth_map": True}),
        lambda feature: feature["info"].update({"video.is_depth_map": True}),
        lambda feature: feature.update(info=None, video_info={"video.is_depth_map": True}),
        lambda feature: feature["info"].update({"video.pix_fmt": "gray12le"}),
        lambda feature: feature.update(names=["height", "width", "depth"]),
    ],
)
def test_depth_is_left_out_with_a_warning(tmp_path, episodes, mark, caplog):
    write(tmp_path, episodes)
    change_info(tmp_path, lambda info: mark(info["features"]["observation.images.wrist"]))
    with caplog.at_level(logging.WARNING):
        assert list(open_dataset(tmp_path)[0].images) == ["primary"]
    assert "observation.images.wrist, which is depth" in caplog.text


def test_features_of_openpis_scripts_are_known(tmp_path):
    episode = made_episode(0, expert_drove=None, environment_state=None, metadata={})
    names = {
        "observation.images.primary": "image",
        "observation.images.wrist": "wrist_image",
        "observation.state": "state",
        "action": "actions",
    }
    with LeRobotWriter(tmp_path, fps=5, cameras="image") as writer:
        writer.append(episode)
    path = tmp_path / "data/chunk-000/file-000.parquet"
    rows = pq.read_table(path)
    pq.write_table(rows.rename_columns([names.get(name, name) for name in rows.column_names]), path)
    change_info(
        tmp_path, lambda info: info.update(features={names.get(k, k): of for k, of in info["features"].items()})
    )
    (read,) = open_dataset(tmp_path)
    assert_same(read, episode)


def test_keys_are_named_and_put_behind_one_another(old, episodes):
    rows = pq.read_table(old / DATA.format(0))
    wide = pa.array([[1.0, 2.0]] * 7, pa.list_(pa.float32()))
    rows = rows.append_column("action.hand", wide).append_column("observation.state.hand", wide)
    pq.write_table(set_column(rows, "timestamp", rows["timestamp"]), old / DATA.format(0))
    change_info(
        old,
        lambda info: info["features"].update(
            {"action.hand": {"dtype": "float32", "shape": [2]}, "observation.state.hand": {"dtype": "float32"}}
        ),
    )
    keys = Keys(action=("action", "action.hand"), state=("observation.state.hand",), cameras={"top": KEY})
    read = open_dataset(old, keys)[0]
    np.testing.assert_array_equal(read.actions, np.hstack([episodes[0].actions, [[1, 2]] * 7]))
    np.testing.assert_array_equal(read.proprio, [[1, 2]] * 7)
    assert list(read.images) == ["top"]


def test_an_unknown_key_is_refused_with_the_available_ones(old):
    for keys, message, hint in [
        (Keys(action=("actions.joint",)), "has no 'actions.joint'", "--action-key; available: action, "),
        (Keys(state=("qpos",)), "has no 'qpos'", "--state-key; available: action, "),
        (Keys(cameras={"primary": "top"}), "has no camera 'top'", f"--camera primary=; available: {KEY}"),
    ]:
        with pytest.raises(DatasetError, match=message) as error:
            open_dataset(old, keys)
        assert hint in error.value.hint
    change_info(old, lambda info: info["features"].update(move=info["features"].pop("action")))
    with pytest.raises(DatasetError, match="has no feature 'action'") as error:
        open_dataset(old)
    assert "--action-key; available: environment_state, episode_index" in error.value.hint

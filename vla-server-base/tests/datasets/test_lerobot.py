"""LeRobot's form: what is written is read back, and is laid out as LeRobot lays it out."""

import json

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_folders import VIDEO_TOLERANCE, write, write_version_2
from recorded_episodes import assert_same, made_episode

from vla_server_base.datasets import EpisodeDataset, EpisodeWriter, open_dataset
from vla_server_base.datasets.lerobot import LeRobotDataset
from vla_server_base.datasets.lerobot_meta import read_tasks
from vla_server_base.datasets.lerobot_writer import LeRobotWriter
from vla_server_base.errors import DatasetError


@pytest.mark.parametrize("episodes_per_file", [1, 2, 100])
def test_episodes_come_back_from_video(tmp_path, episodes, episodes_per_file):
    dataset = open_dataset(write(tmp_path, episodes, episodes_per_file=episodes_per_file))
    assert (len(dataset), dataset.fps) == (3, 5.0)
    for read, wanted in zip((episode for episode in dataset), episodes, strict=True):
        assert_same(read, wanted, VIDEO_TOLERANCE)
    assert dataset.metadata(1) == {"task": "pick_up", "seed": 1}
    assert len(list(tmp_path.glob("videos/*/*/*.mp4"))) == 2 * -(-3 // episodes_per_file)


def test_images_come_back_exactly_from_parquet(tmp_path):
    odd = made_episode(3, images={"primary": np.random.default_rng(0).integers(0, 256, (7, 9, 11, 3), np.uint8)})
    (read,) = open_dataset(write(tmp_path, [odd], cameras="image"))
    assert_same(read, odd)
    assert not (tmp_path / "videos").exists()


def test_single_numbers_and_absent_features_come_back(tmp_path):
    bare = made_episode(
        0, images={}, proprio=np.ones((7, 1), np.float32), actions=np.zeros((7, 1), np.float32), expert_drove=None
    )
    (read,) = open_dataset(write(tmp_path, [bare]))
    assert_same(read, bare)


def test_names_of_states_and_actions_come_back(tmp_path):
    joints, motion = tuple(f"joint{number}" for number in range(8)), ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    named = made_episode(0, proprio_names=joints, action_names=motion)
    (read,) = open_dataset(write(tmp_path, [named], cameras="image"))
    assert_same(read, named)
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    assert (features["observation.state"]["names"], features["action"]["names"]) == ([*joints], [*motion])
    with LeRobotWriter(tmp_path, fps=5, cameras="image") as writer, pytest.raises(DatasetError, match="does not fit"):
        writer.append(made_episode(1))


def test_what_only_a_simulation_knows_is_no_input_of_a_policy(tmp_path, episodes):
    write(tmp_path, episodes)
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    inputs = {key for key in features if key.startswith("observation")}
    assert inputs == {"observation.images.primary", "observation.images.wrist", "observation.state"}
    assert features["environment_state"]["shape"] == [14]


def test_dataset_and_writer_are_a_dataset_and_its_writer(tmp_path, episodes):
    assert isinstance(LeRobotDataset(write(tmp_path, episodes)), EpisodeDataset)
    assert isinstance(LeRobotWriter(tmp_path, fps=5), EpisodeWriter)


def test_a_second_writer_goes_on_in_new_files(tmp_path, episodes):
    write(tmp_path, episodes[:2])
    dataset = open_dataset(write(tmp_path, episodes[2:]))
    for read, wanted in zip((episode for episode in dataset), episodes, strict=True):
        assert_same(read, wanted, VIDEO_TOLERANCE)
    assert sorted(path.name for path in tmp_path.glob("data/*/*")) == ["file-000.parquet", "file-001.parquet"]


def test_an_interrupted_writer_leaves_what_was_complete(tmp_path, episodes):
    interrupted = LeRobotWriter(tmp_path, fps=5, episodes_per_file=2)
    for episode in episodes:
        interrupted.append(episode)
    assert len(open_dataset(tmp_path)) == 2
    dataset = open_dataset(write(tmp_path, [made_episode(9)]))
    assert [episode["seed"] for episode in map(dataset.metadata, range(len(dataset)))] == [0, 1, 9]
    assert_same(dataset[2], made_episode(9), VIDEO_TOLERANCE)


def test_files_are_laid_out_as_lerobot_does(tmp_path, episodes):
    write(tmp_path, episodes, robot="panda")
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert (info["codebase_version"], info["robot_type"], info["fps"]) == ("v3.0", "panda", 5)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 22, 2)
    assert info["features"]["observation.images.primary"]["shape"] == [32, 48, 3]
    assert info["features"]["action"] == {"dtype": "float32", "shape": [7], "names": None}
    rows = pq.read_table(tmp_path / "data/chunk-000/file-000.parquet")
    assert set(rows.column_names) == {
        key for key, feature in info["features"].items() if feature["dtype"] != "video"
    }, "all that is no video is a column"
    assert rows.schema.field("action").type == pa.list_(pa.float32(), 7)
    assert rows["index"].to_pylist() == list(range(22))
    assert rows["frame_index"].to_pylist() == [*range(7), *range(3), *range(12)]
    assert rows["task_index"].to_pylist() == [0] * 7 + [1] * 3 + [0] * 12
    about = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    key = "videos/observation.images.wrist"
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in about] == [(0, 7), (7, 10), (10, 22)]
    spans = [(row[f"{key}/from_timestamp"], row[f"{key}/to_timestamp"]) for row in about]
    np.testing.assert_allclose(spans, [(0, 1.4), (1.4, 2.0), (2.0, 4.4)])
    with av.open(str(tmp_path / "videos/observation.images.wrist/chunk-000/file-000.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 5)
        assert [round(5 * frame.time) for frame in video.decode(stream)] == list(range(22))


def test_statistics_are_those_of_all_frames(tmp_path, episodes):
    write(tmp_path, episodes[:1])
    write(tmp_path, episodes[1:])
    stored = json.loads((tmp_path / "meta/stats.json").read_text())
    actions = np.concatenate([episode.actions for episode in episodes])
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(stored["action"][name], getattr(actions, name)(axis=0), rtol=1e-5)
    np.testing.assert_allclose(stored["action"]["q99"], np.quantile(actions, 0.99, axis=0), rtol=1e-5)
    drove = np.concatenate([episode.expert_drove for episode in episodes])
    assert stored["expert_drove"]["q10"] == [np.quantile(drove.astype(float), 0.1)]
    colours = np.concatenate([episode.images["primary"] for episode in episodes]) / 255
    of_camera = stored["observation.images.primary"]
    np.testing.assert_allclose(np.squeeze(of_camera["mean"]), colours.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(np.squeeze(of_camera["std"]), colours.std(axis=(0, 1, 2)))
    assert of_camera["count"] == [22]


def test_a_dataset_of_version_2_1_is_read(tmp_path, episodes):
    dataset = open_dataset(write_version_2(tmp_path / "old", episodes))
    for read, wanted in zip((episode for episode in dataset), episodes, strict=True):
        np.testing.assert_array_equal(read.actions, wanted.actions)
        assert read.instruction == wanted.instruction
        off = np.abs(read.images["primary"].astype(int) - wanted.images["primary"])
        assert off.mean() <= VIDEO_TOLERANCE


def test_what_cannot_be_written_is_refused(tmp_path, episodes):
    write(tmp_path / "dataset", episodes)
    with pytest.raises(DatasetError, match=r"at 5 fps; expected v3\.0 at 10 fps"):
        LeRobotWriter(tmp_path / "dataset", fps=10)
    with LeRobotWriter(tmp_path / "dataset", fps=5) as writer, pytest.raises(DatasetError, match="does not fit"):
        writer.append(made_episode(0, proprio=None))
    with pytest.raises(DatasetError, match=r"expected a whole number for a LeRobot dataset, got 2\.5"):
        LeRobotWriter(tmp_path / "new", fps=2.5)
    odd = made_episode(0, images={"primary": np.zeros((7, 9, 11, 3), np.uint8)})
    with LeRobotWriter(tmp_path / "new", fps=5) as writer, pytest.raises(DatasetError, match="got 11x9") as error:
        writer.append(odd)
    assert 'cameras="image"' in error.value.hint


def test_damage_is_named_with_what_to_do(tmp_path, episodes):
    write(tmp_path, episodes)
    video = tmp_path / "videos/observation.images.wrist/chunk-000/file-000.mp4"
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"file-000\.mp4 cannot be read"):
        open_dataset(tmp_path)[0]
    video.unlink()
    with pytest.raises(DatasetError, match=r"file-000\.mp4 is missing"):
        open_dataset(tmp_path)[0]
    (tmp_path / "data/chunk-000/file-000.parquet").unlink()
    with pytest.raises(DatasetError, match=r"episode 0 of .*file-000\.parquet is missing") as error:
        open_dataset(tmp_path)[0]
    assert "copy the dataset again" in error.value.hint
    (tmp_path / "meta/tasks.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"tasks\.parquet is damaged or incomplete"):
        open_dataset(tmp_path)
    (tmp_path / "meta/tasks.parquet").unlink()
    with pytest.raises(DatasetError, match=r"has no meta/tasks\.parquet"):
        LeRobotWriter(tmp_path, fps=5)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    (tmp_path / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v1.6"}))
    with pytest.raises(DatasetError, match=r"version v1\.6; expected"):
        open_dataset(tmp_path)


def test_tasks_are_a_data_frame_with_instructions_for_an_index(tmp_path, episodes):
    write(tmp_path, episodes)
    assert read_tasks(tmp_path) == {0: "pick up cube 0", 1: "pick up cube 1"}
    stored = json.loads(pq.read_schema(tmp_path / "meta/tasks.parquet").metadata[b"pandas"])
    assert stored["index_columns"] == ["task"]

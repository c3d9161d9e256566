"""RLDS as TensorFlow Datasets writes it is read as episodes, without TensorFlow."""

import json
import logging

import numpy as np
import pytest

from vla_server_base.datasets import EpisodeDataset, Keys, open_recording
from vla_server_base.datasets.tfrecord import find_records, read_example
from vla_server_base.errors import DatasetError
from vla_server_base.testing.recordings import example, grey_images, numbers, record, rlds_episode, write_rlds

SHARD = "small_robot/1.0.0/small_robot-train.tfrecord-0000{}-of-00002"


def test_a_dataset_is_read(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = open_recording(write_rlds(tmp_path), fps=5)
    assert isinstance(dataset, EpisodeDataset)
    assert (len(dataset), dataset.fps, dataset.name(2)) == (3, 5, "2")
    assert "skipped observation/depth_image, which is depth" in caplog.text
    # The episodes of the first file, then those of the second.
    for number, episode in zip((0, 2, 1), [*dataset], strict=True):
        length = 5 + number
        np.testing.assert_array_equal(episode.actions, numbers(number, length, 7).astype(np.float32))
        np.testing.assert_array_equal(episode.proprio, numbers(number + 1, length, 8).astype(np.float32))
        np.testing.assert_allclose(episode.images["primary"], grey_images(number, length), atol=2)
        np.testing.assert_array_equal(episode.images["wrist"], grey_images(number + 2, length, 16, 16))
        assert episode.instruction == f"do task {number}"


@pytest.mark.parametrize("below", ["", "small_robot", "small_robot/1.0.0"])
def test_the_folder_may_be_named_at_any_level(tmp_path, below):
    write_rlds(tmp_path)
    assert len(open_recording(tmp_path / below, fps=5)) == 3


def test_one_of_several_datasets_and_splits_is_named(tmp_path):
    write_rlds(tmp_path, (4,), shards=1, split="val")
    assert len(open_recording(tmp_path, fps=5, split="val")) == 1
    with pytest.raises(DatasetError, match="no TFRecord files of the split 'train'") as error:
        open_recording(tmp_path, fps=5)
    assert "--split: val" in error.value.hint
    (tmp_path / "small_robot/1.0.0").rename(tmp_path / "small_robot/2.0.0")
    write_rlds(tmp_path)
    with pytest.raises(DatasetError, match="holds several datasets") as error:
        open_recording(tmp_path, fps=5)
    assert "small_robot/1.0.0, small_robot/2.0.0" in error.value.hint


def test_keys_are_named(tmp_path):
    keys = Keys(action=("action", "gripper"), state=("gripper",), cameras={"top": "observation/wrist_image"})
    episode = open_recording(write_rlds(tmp_path), keys, fps=5)[0]
    np.testing.assert_array_equal(episode.actions[:, 7], np.arange(5))
    assert (episode.proprio.shape, list(episode.images)) == ((5, 1), ["top"])
    with pytest.raises(DatasetError, match="has no 'actions'") as error:
        open_recording(tmp_path, Keys(action=("actions",)), fps=5)
    assert "--action-key; available: action, gripper, is_first, observation/state" in error.value.hint
    with pytest.raises(DatasetError, match="does not state its rate") as error:
        open_recording(tmp_path)
    assert "--fps" in error.value.hint


def test_damage_is_named_with_its_record(tmp_path):
    shard = write_rlds(tmp_path) / SHARD.format(0)
    whole = shard.read_bytes()
    (first, second) = find_records(shard)
    changed = bytearray(whole)
    changed[second.start + 100] ^= 1
    shard.write_bytes(changed)
    dataset = open_recording(tmp_path, fps=5)
    assert len(dataset[0]) == 5
    with pytest.raises(DatasetError, match=r"episode 1 of .*record 1 is damaged: its checksum does not match"):
        dataset[1]
    for content, message in [
        (whole[:-7], "record 1 is truncated"),
        (b"\1" + whole[1:], "record 0 at byte 0 is damaged"),
        (whole[: first.start + first.length + 4], "has 1 episodes, but dataset_info.json lists 2"),
    ]:
        shard.write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            open_recording(tmp_path, fps=5)
    shard.unlink()
    with pytest.raises(DatasetError, match="has 1 of the 2 files of 'train'"):
        open_recording(tmp_path, fps=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps/action": np.full((5, 7), np.nan)}, "episode 0 of .*actions: number 0 at timestep 0 is nan"),
        ({"steps/action": np.zeros((5, 6))}, "action: expected a multiple of 7 numbers, got 30"),
        ({"steps/action": np.zeros((4, 7))}, "an episode has 4 actions, but another number of timesteps"),
        ({"steps/action": np.zeros((0, 7))}, "it has no steps/action"),
        (
            {"steps/observation/image": [b"\xff\xd8"] * 5},
            "observation/image at timestep 0: the image cannot be decoded",
        ),
        ({"steps/language_instruction": [b"\xff"] * 5}, "instruction: expected UTF-8"),
    ],
)
def test_a_damaged_episode_is_named(tmp_path, changes, message):
    shard = write_rlds(tmp_path, (5,), shards=1) / "small_robot/1.0.0/small_robot-train.tfrecord-00000-of-00001"
    shard.write_bytes(record(example({**rlds_episode(0, 5), **changes})))
    with pytest.raises(DatasetError, match=message):
        open_recording(tmp_path, fps=5)[0]


def test_another_form_is_refused_by_name(tmp_path):
    version = write_rlds(tmp_path) / "small_robot/1.0.0"
    (version / "dataset_info.json").write_text(json.dumps({"fileFormat": "array_record"}))
    with pytest.raises(DatasetError, match="is stored as array_record; expected tfrecord"):
        open_recording(tmp_path, fps=5)
    (version / "features.json").write_text(json.dumps({"featuresDict": {"features": {"image": {"image": {}}}}}))
    with pytest.raises(DatasetError, match="expected an RLDS dataset"):
        open_recording(tmp_path, fps=5)


def test_numbers_of_all_types_come_back(tmp_path):
    path = tmp_path / "one.tfrecord"
    given = {"large": np.array([2**40, 0, 7]), "real": np.array([0.5, -1e9]), "bytes": [b"", b"\0\1"], "none": []}
    path.write_bytes(record(example(given)))
    read = read_example(find_records(path)[0])
    np.testing.assert_array_equal(read["large"], given["large"])
    np.testing.assert_array_equal(read["real"], given["real"].astype(np.float32))
    assert (read["bytes"], read["none"]) == (given["bytes"], [])

"""Where the episodes of HDF5 and RLDS recordings are, and which features they have."""

import json

import h5py
import numpy as np
import pytest

from vla_server_base.datasets.hdf5_layout import arrays_below, episode_groups, is_images, recording_files
from vla_server_base.datasets.keys import Keys
from vla_server_base.datasets.rlds_features import read_features
from vla_server_base.datasets.rlds_files import dataset_folder, is_rlds, split_records
from vla_server_base.errors import DatasetError
from vla_server_base.testing.recordings import write_aloha, write_rlds, write_robomimic


def test_files_are_ordered_by_their_numbers(tmp_path):
    for name in ("episode_10.hdf5", "episode_9.h5", "episode_1.hdf", ".hidden.hdf5", "notes.txt"):
        (tmp_path / name).touch()
    files = [path.name for path in recording_files(tmp_path)]
    assert files == ["episode_1.hdf", "episode_9.h5", "episode_10.hdf5"]
    assert recording_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_groups_of_one_file_are_episodes_in_the_order_of_their_numbers(tmp_path):
    path = write_robomimic(tmp_path / "lift.hdf5", (2, 2, 2))
    names = [episode.name for episode in episode_groups(path, Keys(), is_alone=True)]
    assert names == ["demo_0", "demo_9", "demo_18"]
    assert episode_groups(path, Keys(), is_alone=False)[1].name == "lift.hdf5:demo_9"


def test_a_file_of_one_episode_is_named_by_itself(tmp_path):
    folder = write_aloha(tmp_path / "aloha", (2,))
    (episode,) = episode_groups(folder / "episode_0.hdf5", Keys(), is_alone=True)
    assert (episode.group, episode.name) == ("/", "episode_0.hdf5")


def test_arrays_are_found_at_any_depth(tmp_path):
    with h5py.File(tmp_path / "one.hdf5", "w") as file:
        file["actions"], file["obs/deep/image"], file["rate"] = np.zeros(3), np.zeros((3, 2)), 5.0
        assert set(arrays_below(file)) == {"actions", "obs/deep/image"}


@pytest.mark.parametrize(
    ("key", "array", "expected"),
    [
        ("obs/front", np.zeros((3, 4, 4, 3), np.uint8), True),
        ("obs/image", np.zeros((3, 90), np.uint8), True),
        ("obs/cam_high", np.array([b"a", b"b"]), True),
        ("obs/image_count", np.zeros(3), False),
        ("obs/names", np.array([b"a", b"b"]), False),
        ("obs/qpos", np.zeros((3, 7)), False),
    ],
)
def test_images_are_recognized_by_shape_or_by_name_and_type(tmp_path, key, array, expected):
    with h5py.File(tmp_path / "one.hdf5", "w") as file:
        assert is_images(key, file.create_dataset(key, data=array)) is expected


def test_the_features_of_a_timestep_are_read_by_their_paths(tmp_path):
    features = read_features(write_rlds(tmp_path) / "small_robot" / "1.0.0" / "features.json")
    assert features["action"].shape == (7,)
    assert [name for name, feature in features.items() if feature.is_text] == ["language_instruction"]
    assert [name for name, feature in features.items() if feature.is_camera] == [
        "observation/image",
        "observation/wrist_image",
    ]
    assert features["observation/wrist_image"].shape == (0, 0, 3)
    assert features["gripper"].is_numbers


def test_a_description_without_steps_is_refused(tmp_path):
    (tmp_path / "features.json").write_text(json.dumps({"featuresDict": {"features": {}}}))
    with pytest.raises(DatasetError, match="expected an RLDS dataset") as error:
        read_features(tmp_path / "features.json")
    assert error.value.hint


def test_the_folder_of_a_dataset_is_found_from_above(tmp_path):
    version = write_rlds(tmp_path / "data") / "small_robot" / "1.0.0"
    assert is_rlds(tmp_path / "data")
    assert dataset_folder(tmp_path / "data") == dataset_folder(version) == version
    assert not is_rlds(tmp_path)


def test_several_datasets_and_none_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="is not an RLDS dataset"):
        dataset_folder(tmp_path)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "features.json").touch()
    with pytest.raises(DatasetError, match="several datasets") as error:
        dataset_folder(tmp_path)
    assert error.value.hint == "name one of them: first, second"


def test_records_of_all_shards_are_episodes(tmp_path):
    version = write_rlds(tmp_path, (2, 2, 2, 2, 2), shards=3) / "small_robot" / "1.0.0"
    assert len(split_records(version, "train")) == 5


def test_a_missing_shard_or_split_is_refused(tmp_path):
    version = write_rlds(tmp_path, (2, 2), shards=2) / "small_robot" / "1.0.0"
    with pytest.raises(DatasetError, match="split 'test'") as error:
        split_records(version, "test")
    assert error.value.hint == "choose one with --split: train"
    (version / "small_robot-train.tfrecord-00001-of-00002").unlink()
    with pytest.raises(DatasetError, match="has 1 of the 2 files of 'train'"):
        split_records(version, "train")

"""HDF5 as robomimic and ALOHA write it is read as episodes."""

import logging

import h5py
import numpy as np
import pytest

from vla_server_base.datasets import EpisodeDataset, Keys, open_dataset, open_recording
from vla_server_base.errors import DatasetError
from vla_server_base.testing.recordings import encoded, grey_images, numbers, write_aloha, write_robomimic


def test_robomimics_file_is_read(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = open_recording(write_robomimic(tmp_path / "low_dim.hdf5"))
    assert isinstance(dataset, EpisodeDataset)
    assert (dataset.fps, [dataset.name(i) for i in range(3)]) == (20, ["demo_0", "demo_9", "demo_18"])
    assert "skipped obs/agentview_depth, which is depth" in caplog.text
    for number, episode in enumerate(episode for episode in dataset):
        length = 5 + number
        np.testing.assert_array_equal(episode.actions, numbers(number, length, 7).astype(np.float32))
        np.testing.assert_array_equal(episode.images["primary"], grey_images(number, length))
        np.testing.assert_array_equal(episode.images["wrist"], grey_images(number + 2, length, 16, 16))
        place = [numbers(number, length, dim) for dim in (3, 4, 2)]
        np.testing.assert_array_equal(episode.proprio, np.hstack(place).astype(np.float32))
        assert episode.instruction == ""
        assert episode.metadata == {"episode": dataset.name(number)}


def test_liberos_file_says_its_instruction(tmp_path):
    path = write_robomimic(tmp_path / "task.hdf5", problem_info={"language_instruction": "put the bowl on the stove"})
    assert open_recording(path)[0].instruction == "put the bowl on the stove"


@pytest.mark.parametrize("compressed", [True, False])
def test_alohas_folder_is_read(tmp_path, compressed):
    dataset = open_recording(write_aloha(tmp_path / "recorded", compressed=compressed), fps=50)
    assert (dataset.fps, [dataset.name(i) for i in range(2)]) == (50, ["episode_0.hdf5", "episode_9.hdf5"])
    for number, episode in enumerate(episode for episode in dataset):
        length = 5 + number
        np.testing.assert_array_equal(episode.actions, numbers(number, length, 14).astype(np.float32))
        np.testing.assert_array_equal(episode.proprio, numbers(number + 1, length, 14).astype(np.float32))
        assert list(episode.images) == ["cam_high", "cam_left_wrist"]
        np.testing.assert_allclose(episode.images["cam_high"], grey_images(number, length), atol=2)


def test_images_files_of_any_length_are_read(tmp_path):
    path = write_aloha(tmp_path / "recorded") / "episode_0.hdf5"
    with h5py.File(path, "a") as file:
        del file["observations/images/cam_high"]
        contents = [np.frombuffer(encoded(image), np.uint8) for image in grey_images(0, 5)]
        array = file.create_dataset("observations/images/cam_high", (5,), h5py.vlen_dtype(np.uint8))
        for timestep, content in enumerate(contents):
            array[timestep] = content
    np.testing.assert_allclose(open_recording(path, fps=50)[0].images["cam_high"], grey_images(0, 5), atol=2)


def test_keys_are_named(tmp_path):
    path = write_robomimic(tmp_path / "low_dim.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_0/said"] = ["lift it"] * 5
    keys = Keys(
        action=("obs/robot0_eef_pos", "obs/robot0_gripper_qpos"),
        state=("obs/object",),
        cameras={"top": "obs/agentview_image"},
        instruction="said",
    )
    dataset = open_recording(path, keys)
    assert (dataset[0].actions.shape, dataset[0].proprio.shape, list(dataset[0].images)) == ((5, 5), (5, 10), ["top"])
    assert dataset[0].instruction == "lift it"
    with pytest.raises(DatasetError, match=r"episode demo_9 of .*: it has no 'said'"):
        dataset[1]


def test_an_unknown_key_is_refused_with_the_available_ones(tmp_path):
    path = write_robomimic(tmp_path / "low_dim.hdf5")
    for keys, message, hint in [
        (Keys(action=("act",)), "has no episode with act", "--action-key; available: "),
        (Keys(state=("obs/qpos",)), "demo_0 has no 'obs/qpos'", "--state-key; available: actions, dones, "),
        (Keys(cameras={"top": "front"}), "no images 'front'", "--camera top=; available: obs/agentview_image, "),
    ]:
        with pytest.raises(DatasetError, match=message) as error:
            open_recording(path, keys)
        assert hint in error.value.hint
    with pytest.raises(DatasetError, match="does not state its rate") as error:
        open_recording(write_aloha(tmp_path / "recorded"))
    assert "--fps 50" in error.value.hint


def test_damage_is_named_with_its_episode(tmp_path, caplog):
    path = write_robomimic(tmp_path / "low_dim.hdf5", (5, 0, 7))
    with h5py.File(path, "a") as file:
        actions = file["data/demo_0/actions"]
        assert isinstance(actions, h5py.Dataset)
        actions[3, 2] = np.nan
        del file["data/demo_18/obs/agentview_image"]
    dataset = open_recording(path)
    assert "skipped demo_9, which has no timestep" in caplog.text
    with pytest.raises(DatasetError, match=r"episode demo_0 of .*actions: number 2 at timestep 3 is nan"):
        dataset[0]
    with pytest.raises(DatasetError, match=r"episode demo_18 of .*it has no 'obs/agentview_image'"):
        dataset[1]
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DatasetError, match=r"low_dim\.hdf5 is damaged or not an HDF5 file"):
        open_recording(path)


def test_training_says_how_to_convert(tmp_path):
    write_robomimic(tmp_path / "low_dim.hdf5")
    for source in (tmp_path, tmp_path / "low_dim.hdf5"):
        with pytest.raises(DatasetError, match="holds no recorded episodes") as error:
            open_dataset(source)
        assert "octo-service convert-data" in error.value.hint
    (tmp_path / "low_dim.hdf5").unlink()
    with pytest.raises(DatasetError, match="holds no recorded episodes: it has neither an HDF5 file"):
        open_recording(tmp_path)

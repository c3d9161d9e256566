"""An array store gives back what was written, and survives whatever interrupts its writer."""

import json
import subprocess
import sys

import numpy as np
import pytest
from recorded_episodes import assert_same, made_episode

from vla_server_base.datasets import ArrayStore, ArrayStoreWriter, EpisodeDataset, EpisodeWriter, open_dataset
from vla_server_base.errors import DatasetError


@pytest.fixture
def folder(tmp_path, episodes):
    """Return a folder with a store of the three episodes."""
    with ArrayStoreWriter(tmp_path / "store", fps=5) as writer:
        for episode in episodes:
            writer.append(episode)
    return tmp_path / "store"


def test_episodes_come_back_as_they_were(folder, episodes):
    store = open_dataset(folder)
    assert (len(store), store.fps) == (3, 5.0)
    for read, wanted in zip((episode for episode in store), episodes, strict=True):
        assert_same(read, wanted)
    assert [store.metadata(index)["seed"] for index in range(3)] == [0, 1, 2]
    assert_same(store[-1], episodes[-1])


def test_store_and_writer_are_a_dataset_and_its_writer(tmp_path, folder):
    assert isinstance(ArrayStore(folder), EpisodeDataset)
    with ArrayStoreWriter(tmp_path / "new", fps=5) as writer:
        assert isinstance(writer, EpisodeWriter)


def test_optional_fields_may_be_absent(tmp_path):
    bare = made_episode(0, images={}, proprio=None, expert_drove=None, metadata={})
    with ArrayStoreWriter(tmp_path, fps=5) as writer:
        writer.append(bare)
    assert_same(ArrayStore(tmp_path)[0], bare)


def test_frames_are_views_of_the_files(folder, episodes):
    frames = ArrayStore(folder)[2].images["primary"]
    assert not frames.flags.owndata
    assert not frames.flags.writeable
    assert np.may_share_memory(ArrayStore(folder)[2].images["primary"], frames) is False, "mapped by each store"
    np.testing.assert_array_equal(frames[5], episodes[2].images["primary"][5])


def test_an_appended_episode_is_on_disk_before_the_writer_is_closed(tmp_path, episodes):
    writer = ArrayStoreWriter(tmp_path, fps=5)
    for count, episode in enumerate(episodes, 1):
        writer.append(episode)
        assert len(ArrayStore(tmp_path)) == count
    writer.close()


def test_an_episode_that_was_interrupted_is_removed(folder, episodes):
    with (folder / "image_primary.raw").open("ab") as file:
        file.write(b"half an image")
    with (folder / "episodes.jsonl").open("ab") as file:
        file.write(b'{"length": 9, "instruc')
    assert len(ArrayStore(folder)) == 3
    with ArrayStoreWriter(folder, fps=5) as writer:
        writer.append(episodes[0])
    assert len(ArrayStore(folder)) == 4
    assert_same(ArrayStore(folder)[3], episodes[0])


def test_a_writer_killed_before_its_first_episode_leaves_a_folder_to_resume(tmp_path, episodes):
    ArrayStoreWriter(tmp_path, fps=5).close()
    with pytest.raises(DatasetError, match="is not an array store"):
        ArrayStore(tmp_path)
    with ArrayStoreWriter(tmp_path, fps=5) as writer:
        writer.append(episodes[0])
    assert len(ArrayStore(tmp_path)) == 1


def test_two_programs_do_not_write_to_one_store(folder):
    code = f"from vla_server_base.datasets import ArrayStoreWriter; ArrayStoreWriter({str(folder)!r}, fps=5)"
    with ArrayStoreWriter(folder, fps=5):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process writes to" in other.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proprio": None}, "do not fit the store"),
        ({"actions": np.zeros((7, 6), np.float32)}, "do not fit the store"),
        ({"images": {"primary": np.zeros((7, 8, 8, 3), np.uint8)}}, "do not fit the store"),
    ],
)
def test_an_episode_of_another_kind_is_refused_and_leaves_no_trace(folder, changes, message):
    sizes = {path: path.stat().st_size for path in folder.iterdir()}
    with ArrayStoreWriter(folder, fps=5) as writer, pytest.raises(DatasetError, match=message):
        writer.append(made_episode(0, **changes))
    assert {path: path.stat().st_size for path in folder.iterdir()} == sizes


def test_arrays_of_different_lengths_are_refused():
    """Checked without runtime types, as in a user's program."""
    code = (
        "import numpy as np; from vla_server_base.datasets import RecordedEpisode\n"
        "RecordedEpisode(images={}, actions=np.zeros((7, 7), np.float32), proprio=np.zeros((6, 8), np.float32))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "7 actions, but another number of timesteps in: {'proprio': 6}" in run.stderr


def test_another_rate_is_refused(folder):
    with pytest.raises(DatasetError, match="has 5 fps; expected 10"):
        ArrayStoreWriter(folder, fps=10)


def test_damage_is_reported_with_a_hint(folder):
    with pytest.raises(DatasetError, match="holds no recorded episodes") as error:
        open_dataset(folder.parent)
    assert "octo-service demonstrate" in error.value.hint
    (folder / "actions.raw").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"actions\.raw is missing or shorter") as error:
        open_dataset(folder)
    assert "copy the folder again" in error.value.hint
    header = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps({**header, "version": 2}))
    with pytest.raises(DatasetError, match="has version 2; expected 1"):
        open_dataset(folder)
    (folder / "store.json").write_text("{")
    with pytest.raises(DatasetError, match=r"store\.json is damaged"):
        open_dataset(folder)

"""A folder of recorded episodes is opened by what it holds; new episodes are recorded as a LeRobot dataset."""

import subprocess
import sys

import pytest
from recorded_episodes import assert_same

from vla_server_base.datasets import (
    ArrayStore,
    ArrayStoreWriter,
    Keys,
    RecordedEpisode,
    form_of,
    open_dataset,
    open_recording,
    open_writer,
)
from vla_server_base.errors import DatasetError


@pytest.fixture
def store(tmp_path, episodes):
    """Return a folder with an array store."""
    with ArrayStoreWriter(tmp_path / "store", fps=5) as writer:
        writer.append(episodes[0])
    return tmp_path / "store"


def recorded(folder, episodes: list[RecordedEpisode], **options):
    writer = open_writer(folder, fps=5, **options)
    for episode in episodes:
        writer.append(episode)
    writer.close()
    return folder


def test_episodes_are_recorded_as_a_lerobot_dataset(tmp_path, episodes):
    folder = recorded(tmp_path / "new", episodes)
    assert form_of(folder) == "lerobot"
    assert (folder / "meta" / "info.json").exists()
    assert len(open_dataset(folder)) == 3


def test_lossless_images_come_back_exactly(tmp_path, episodes):
    dataset = open_dataset(recorded(tmp_path / "new", episodes, lossless=True))
    for read, wanted in zip((episode for episode in dataset), episodes, strict=True):
        assert_same(read, wanted)


def test_a_second_writer_adds_episodes(tmp_path, episodes):
    folder = recorded(recorded(tmp_path / "new", episodes[:1]), episodes[1:])
    assert [dataset_metadata["seed"] for dataset_metadata in map(open_dataset(folder).metadata, range(3))] == [0, 1, 2]


def test_a_training_cache_is_read_but_not_recorded_to(store, episodes):
    assert form_of(store) == "arrays"
    assert isinstance(open_dataset(store), ArrayStore)
    assert isinstance(open_recording(store), ArrayStore)
    with pytest.raises(DatasetError, match="is a training cache") as error:
        open_writer(store, fps=5)
    assert error.value.hint == "write to another folder"


def test_a_training_cache_takes_no_keys(store):
    with pytest.raises(DatasetError, match="keys") as error:
        open_dataset(store, Keys(action=("actions",)))
    assert error.value.hint


@pytest.mark.parametrize("open_source", [open_dataset, open_recording])
def test_a_folder_without_episodes_is_refused(tmp_path, open_source):
    assert form_of(tmp_path) is None
    with pytest.raises(DatasetError, match="holds no recorded episodes") as error:
        open_source(tmp_path)
    assert error.value.hint


@pytest.mark.parametrize(
    ("package", "call", "extra"),
    [
        ("pyarrow", "open_writer('new', fps=5)", "datasets"),
        ("pyarrow", "open_dataset('lerobot')", "datasets"),
        ("h5py", "open_recording('recording.hdf5')", "convert"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_has_it(tmp_path, package, call, extra):
    (tmp_path / "lerobot" / "meta").mkdir(parents=True)
    (tmp_path / "lerobot" / "meta" / "info.json").write_text("{}")
    code = f"""
import sys
sys.modules[{package!r}] = None
from vla_server_base.datasets import open_dataset, open_recording, open_writer
from vla_server_base.errors import DatasetError
try:
    {call}
except DatasetError as error:
    print(error.message, error.hint)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert package in run.stdout
    assert f"--extra {extra}" in run.stdout

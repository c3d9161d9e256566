"""Weights in a safetensors file: mapped as written, aligned, readable by the library, and refused where damaged."""

import json
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from octo_service.checkpoints.weight_file import ALIGNMENT, DTYPES, leave_to_disk, map_weights, raw_bytes, write_weights

ARRAYS = {
    "odd": np.arange(3, dtype=np.uint8),
    "kernel": np.arange(32, dtype=np.float32).reshape(4, 8),
    "half": np.array([1.5, -2], ml_dtypes.bfloat16),
    "empty": np.zeros((0, 4), np.float32),
    "step": np.array(7, np.int64),
    "mask": np.array([True, False]),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_weights(tmp_path / "params.safetensors", ARRAYS, {"params_hash": "abc"})
    return tmp_path / "params.safetensors"


def with_header(path: Path, header: object, content: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


def test_arrays_and_metadata_come_back_as_they_were(file: Path):
    arrays, metadata = map_weights(file)
    assert metadata == {"params_hash": "abc"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(arrays[name], array)


def test_the_library_reads_the_same(file: Path):
    for name, array in safetensors.numpy.load_file(file).items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_what_the_library_writes_is_mapped(tmp_path: Path):
    safetensors.numpy.save_file({"a": ARRAYS["kernel"]}, tmp_path / "theirs.safetensors")
    arrays, metadata = map_weights(tmp_path / "theirs.safetensors")
    np.testing.assert_array_equal(arrays["a"], ARRAYS["kernel"])
    assert metadata == {}


@given(st.dictionaries(st.text("ab", min_size=1), st.tuples(st.sampled_from([*DTYPES.values()]), st.integers(0, 70))))
@settings(max_examples=30)
def test_every_array_starts_where_its_items_are_aligned(tmp_path_factory: pytest.TempPathFactory, sizes):
    path = tmp_path_factory.mktemp("aligned") / "params.safetensors"
    write_weights(path, {name: np.zeros(size, dtype) for name, (dtype, size) in sizes.items()}, {})
    for array in map_weights(path)[0].values():
        assert array.flags.aligned
        if array.size and array.nbytes % ALIGNMENT == 0:
            assert array.ctypes.data % ALIGNMENT == 0


def test_arrays_are_views_that_cannot_be_written_to(file: Path):
    arrays, _ = map_weights(file)
    with pytest.raises(ValueError, match="read-only"):
        arrays["kernel"][0] = 1


def test_what_is_left_to_the_disk_is_read_again(file: Path):
    kernel = map_weights(file)[0]["kernel"]
    assert leave_to_disk(kernel[1:])
    np.testing.assert_array_equal(kernel, ARRAYS["kernel"])


def test_an_array_that_is_not_mapped_stays_in_memory():
    assert not leave_to_disk(np.zeros(4)[1:])


def test_a_file_is_replaced_as_a_whole(file: Path):
    before = map_weights(file)[0]["kernel"]
    write_weights(file, {"kernel": np.zeros(2, np.float32)}, {})
    np.testing.assert_array_equal(before, ARRAYS["kernel"])
    assert map_weights(file)[0]["kernel"].shape == (2,)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(KeyError):
        write_weights(tmp_path / "params.safetensors", {"a": np.zeros(2, np.complex64)}, {})
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_weights(tmp_path / "taken", {"a": np.zeros(2)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_writers_at_the_same_time_leave_one_of_their_files(tmp_path: Path):
    path = tmp_path / "params.safetensors"
    writers = [
        threading.Thread(target=write_weights, args=(path, {"a": np.full(999, number)}, {})) for number in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(np.unique(map_weights(path)[0]["a"])) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_every_cut_is_noticed(file: Path):
    content = file.read_bytes()
    for length in range(0, len(content), 37):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError):
            map_weights(file)


def test_more_than_the_header_says_is_noticed(file: Path):
    file.write_bytes(file.read_bytes() + b"\x00")
    with pytest.raises(ValueError, match="its size is not the one its header says"):
        map_weights(file)


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": 3},
        {"a": {"dtype": "F32", "shape": [1]}},
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "extra": 1}},
        {"a": {"dtype": "F32", "shape": [7], "data_offsets": [0, 4]}},
    ],
)
def test_a_header_of_another_kind_is_refused(tmp_path: Path, header: object):
    with pytest.raises(ValueError):
        map_weights(with_header(tmp_path / "a.safetensors", header, b"\x00" * 4))


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        map_weights(tmp_path / "params.safetensors")


def test_raw_bytes_are_those_of_c_order_without_a_copy_where_they_lie_so():
    array = ARRAYS["kernel"].copy()
    view = raw_bytes(array)
    array[0, 0] = 99
    assert np.frombuffer(view, np.float32)[0] == 99
    assert bytes(raw_bytes(np.asfortranarray(array))) == array.tobytes()

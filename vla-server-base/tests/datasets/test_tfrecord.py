"""TFRecord files: where records are, and what their examples hold."""

import struct

import numpy as np
import pytest

from vla_server_base.datasets.tfrecord import find_records, read_example
from vla_server_base.errors import DatasetError
from vla_server_base.testing.recordings import example, record


@pytest.fixture
def path(tmp_path):
    """Return a file of three records of different lengths."""
    path = tmp_path / "episodes.tfrecord"
    path.write_bytes(b"".join(record(example({"x": np.arange(length, dtype=float)})) for length in (1, 5, 2)))
    return path


def test_each_record_is_found_and_read(path):
    records = find_records(path)
    assert [found.number for found in records] == [0, 1, 2]
    assert [len(read_example(found)["x"]) for found in records] == [1, 5, 2]


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "empty").touch()
    assert find_records(tmp_path / "empty") == []


def test_the_three_kinds_of_values_come_back(tmp_path):
    values = {"numbers": np.array([0.5, -2.0]), "counts": np.array([3, 2**40]), "names": [b"a", b"", b"\xff"]}
    (tmp_path / "one").write_bytes(record(example(values)))
    read = read_example(find_records(tmp_path / "one")[0])
    numbers, counts = np.asarray(read["numbers"]), np.asarray(read["counts"])
    assert (numbers.dtype, counts.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(numbers, [0.5, -2.0])
    np.testing.assert_array_equal(counts, [3, 2**40])
    assert read["names"] == [b"a", b"", b"\xff"]


def test_a_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DatasetError, match="record 2 is truncated"):
        find_records(path)


def test_a_damaged_length_is_refused_with_its_position(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="record 0 at byte 0 is damaged") as error:
        find_records(path)
    assert error.value.hint == "copy the file again"


def test_damaged_content_is_refused(path):
    found = find_records(path)[1]
    content = bytearray(path.read_bytes())
    content[found.start + 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="record 1 is damaged: its checksum does not match"):
        read_example(found)
    np.testing.assert_array_equal(np.asarray(read_example(find_records(path)[0])["x"]), [0])


def test_another_message_is_refused(tmp_path):
    (tmp_path / "other").write_bytes(record(struct.pack("<Q", 2**63)))
    with pytest.raises(DatasetError, match=r"is not a tf\.train\.Example"):
        read_example(find_records(tmp_path / "other")[0])

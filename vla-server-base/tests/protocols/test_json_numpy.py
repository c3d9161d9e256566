"""JSON with arrays: what json-numpy writes is read, and any other bytes are refused."""

import base64
import contextlib
import json
from typing import Any

import json_numpy as reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_server_base.errors import RequestError
from vla_server_base.protocols.json_numpy import dumps, loads

ARRAYS = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.array([1.5], np.float32),
    np.zeros((0, 2)),
    np.array(True),
    np.int64(7),
]


@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_what_json_numpy_writes_is_read(array):
    found = loads(reference.dumps({"x": array}))["x"]
    np.testing.assert_array_equal(found, array)
    assert np.shape(found) == np.shape(array)


@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_json_numpy_reads_what_is_written(array):
    found = reference.loads(dumps([array]))[0]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_arrays_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        loads(reference.dumps(ARRAYS[0]))[0, 0] = 1


def marked(data=b"abcd", dtype: Any = "<f4", shape=(1,)) -> str:
    return json.dumps({"__numpy__": base64.b64encode(data).decode(), "dtype": dtype, "shape": shape})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "\xff",
        b"\xff",
        "NaN",
        "[" * 99_000,
        "[" + "1," * 100_001 + "1]",
        marked(dtype="|O"),
        marked(dtype="V4"),
        marked(dtype=[["a", "<f4"]]),
        marked(shape=(2,)),
        marked(shape=(-1,)),
        marked(shape="x"),
        '{"__numpy__": "?", "dtype": "<f4", "shape": []}',
        '{"__numpy__": 3, "dtype": "<f4", "shape": []}',
        '{"__numpy__": ""}',
    ],
    ids=lambda text: str(text)[:30],
)
def test_what_cannot_be_is_refused(text):
    with pytest.raises(RequestError):
        loads(text)


@given(st.binary() | st.text())
def test_any_bytes_are_read_or_refused(text):
    with contextlib.suppress(RequestError):
        loads(text)

"""Arrays from untrusted bytes: what fits becomes a read-only view, everything else is refused with a hint."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, boolean_dtypes, floating_dtypes, integer_dtypes
from hypothesis.extra.numpy import unsigned_integer_dtypes as unsigned_dtypes

from vla_client.arrays import KINDS, MAX_DIMS, array_from_bytes, array_from_npy, checked_dtype, npy_from_array
from vla_client.errors import ProtocolError

NUMBERS = boolean_dtypes() | integer_dtypes() | unsigned_dtypes() | floating_dtypes(sizes=(16, 32, 64))
ARRAYS = arrays(NUMBERS, array_shapes(min_dims=0, max_dims=MAX_DIMS, min_side=0, max_side=4))


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays have the same dtype, shape and bits."""
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@given(ARRAYS)
def test_an_array_comes_back_from_its_bytes(array):
    assert equal(array_from_bytes(array.tobytes(), array.dtype.str, list(array.shape)), array)


@given(ARRAYS)
def test_an_array_comes_back_from_its_npy_file(array):
    assert equal(array_from_npy(npy_from_array(array)), array)


@given(ARRAYS)
def test_an_array_in_fortran_order_comes_back_from_its_npy_file(array):
    np.testing.assert_array_equal(array_from_npy(npy_from_array(np.asfortranarray(array))), array)


def test_an_npy_file_of_version_2_is_read():
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(6).reshape(2, 3), version=(2, 0))
    np.testing.assert_array_equal(array_from_npy(file.getvalue()), [[0, 1, 2], [3, 4, 5]])


def test_arrays_are_read_only_views_of_the_bytes():
    data = bytes(range(12))
    array = array_from_bytes(data, "uint8", [3, 4])
    assert not array.flags.writeable
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))


@given(st.binary(max_size=64), st.sampled_from(["<f4", "uint8", ">i8"]), st.lists(st.integers(0, 8), max_size=3))
def test_only_bytes_of_the_right_number_are_an_array(data, dtype, shape):
    expected = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    if len(data) == expected:
        assert array_from_bytes(data, dtype, shape).shape == tuple(shape)
    else:
        with pytest.raises(ProtocolError, match=f"expected {expected} bytes, got {len(data)}"):
            array_from_bytes(data, dtype, shape)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_npy_file_or_refused(content):
    with pytest.raises(ProtocolError, match="no valid header"):
        array_from_npy(content)


@given(st.data())
def test_an_npy_file_with_a_changed_byte_is_read_or_refused(data):
    content = bytearray(npy_from_array(np.arange(4, dtype=np.float32)))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        assert array_from_npy(bytes(content)).dtype.kind in KINDS


def test_an_npy_file_of_a_pickle_is_refused_without_reading_it():
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ProtocolError, match="is not supported"):
        array_from_npy(file.getvalue())


def test_an_npy_file_that_claims_a_large_array_allocates_nothing():
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**30, 2**10)}
    np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ProtocolError, match="got 0"):
        array_from_npy(file.getvalue())


@pytest.mark.parametrize("content", [None, "text", 3, [1, 2], bytearray(8)], ids=repr)
def test_data_that_is_not_bytes_is_named_by_its_type(content):
    for read in (lambda: array_from_bytes(content, "<f4", [2]), lambda: array_from_npy(content)):
        with pytest.raises(ProtocolError, match=f"expected bytes, got {type(content).__name__}"):
            read()


@given(st.text(max_size=20) | st.integers() | st.none() | st.lists(st.text()))
def test_whatever_is_given_as_a_dtype_is_a_number_or_refused(dtype):
    with suppress(ProtocolError):
        checked = checked_dtype(dtype)
        assert checked.kind in KINDS
        assert checked.itemsize <= 8


@pytest.mark.parametrize("dtype", ["O", "V8", "U4", "S4", "c8", "M8[s]", "m8[s]", "f16", "<f4,<f4", "f4" * 20])
def test_objects_structures_text_dates_and_complex_numbers_are_refused(dtype):
    with pytest.raises(ProtocolError, match="is not supported") as raised:
        checked_dtype(dtype)
    assert "booleans, integers or floats" in raised.value.hint


@pytest.mark.parametrize("shape", [None, 3, "33", [-1], [1.0], [True], [2**31], [[1]], [1] * (MAX_DIMS + 1)], ids=repr)
def test_a_shape_is_a_short_list_of_sizes(shape):
    with pytest.raises(ProtocolError, match="is not valid"):
        array_from_bytes(b"\0", "uint8", shape)

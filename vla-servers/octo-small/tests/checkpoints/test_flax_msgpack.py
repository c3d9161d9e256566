"""The msgpack form of flax: what is written is read back, and what is not of it is refused."""

import contextlib
import io
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from octo_service.checkpoints.flax_msgpack import CHUNKED, read_tree, write_tree

DTYPES = [np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_, np.complex64]
leaves = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
trees = st.recursive(
    leaves, lambda inner: st.dictionaries(st.text(max_size=5).filter(lambda name: name != CHUNKED), inner, max_size=3)
)


def written(tree: Any, **options: int) -> bytes:
    file = io.BytesIO()
    write_tree(file, tree, **options)
    return file.getvalue()


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_equal(one[name], other[name])
    else:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@given(trees)
@settings(max_examples=50)
def test_a_tree_comes_back_as_it_was(tree: Any):
    assert_equal(read_tree(written(tree)), tree)


@given(leaves, st.integers(8, 40))
@settings(max_examples=50)
def test_an_array_in_pieces_of_an_item_or_more_comes_back_whole(leaf: np.ndarray, chunk_bytes: int):
    assert_equal(read_tree(written({"a": leaf}, chunk_bytes=chunk_bytes)), {"a": leaf})


def test_only_arrays_larger_than_a_piece_are_cut():
    tree = msgpack.unpackb(written({"a": np.zeros(4, np.uint8), "b": np.zeros(5, np.uint8)}, chunk_bytes=4))
    assert isinstance(tree["a"], msgpack.ExtType)
    assert (tree["b"][CHUNKED], list(tree["b"]["chunks"]), tree["b"]["shape"]) == (True, ["0", "1"], {"0": 5})


def test_more_than_ten_pieces_are_joined_in_the_order_of_their_numbers():
    leaf = np.arange(12, dtype=np.uint8)
    np.testing.assert_array_equal(read_tree(written(leaf, chunk_bytes=1)), leaf)


def test_what_is_read_cannot_be_written_to():
    leaf = np.arange(12, dtype=np.uint8)
    for options in ({}, {"chunk_bytes": 5}):
        assert not read_tree(written(leaf, **options)).flags.writeable


def test_an_array_of_any_layout_is_written_in_the_order_of_c():
    leaf = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert written(np.asfortranarray(leaf)) == written(leaf)
    np.testing.assert_array_equal(read_tree(written(leaf[:, ::-1])), leaf[:, ::-1])


def test_bfloat16_keeps_its_bits():
    leaf = np.array([1.5, -2, 3e38], ml_dtypes.bfloat16)
    assert_equal(read_tree(written(leaf)), leaf)


@pytest.mark.parametrize("value", [np.float32(2.5), np.int64(-3), np.bool_(True)])
def test_a_scalar_stays_a_scalar_of_its_type(value: np.generic):
    read = read_tree(written({"step": value}))["step"]
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("value", [3, 2.5, "PLACEHOLDER://a.b", None, True, [1, 2], 1 + 2j])
def test_plain_values_are_kept(value: object):
    assert read_tree(written({"value": value})) == {"value": value}


def extension(code: int, *content: object) -> bytes:
    return msgpack.packb({"a": msgpack.ExtType(code, msgpack.packb(content))})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        written({"a": np.zeros(3)})[:-1],
        written({"a": np.zeros(3)}) + b"\x00",
        extension(4, 1),
        extension(1, [3], "float32", b"\x00" * 8),
        extension(1, [2], "float32", b"\x00" * 7),
        extension(1, [1], "object", b"\x00" * 8),
        extension(1, [1], "datetime64[s]", b"\x00" * 8),
        extension(1, [1], "no_such_dtype", b"\x00" * 8),
        extension(1, [2**62, 4], "float32", b""),
        extension(1, "float32"),
        msgpack.packb({CHUNKED: True, "shape": {"0": 2}}),
        msgpack.packb({CHUNKED: True, "shape": {"0": 2}, "chunks": {}}),
        msgpack.packb({CHUNKED: True, "shape": {"0": 2}, "chunks": {"1": 0}}),
    ],
)
def test_what_is_not_such_a_tree_is_a_value_error(content: bytes):
    with pytest.raises(ValueError):
        read_tree(content)


@given(st.binary(max_size=60))
@settings(max_examples=200)
def test_no_bytes_at_all_raise_anything_else(content: bytes):
    with contextlib.suppress(ValueError):
        read_tree(content)


def test_objects_are_never_written():
    with pytest.raises(ValueError, match="Python objects"):
        written(np.array([object()]))

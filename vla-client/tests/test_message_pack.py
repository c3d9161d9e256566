"""MessagePack with arrays: what clients send is read, anything else is refused, and neither costs much memory."""

import tracemalloc
from contextlib import suppress
from typing import get_args

import msgpack
import msgpack_numpy
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vla_client.errors import ProtocolError
from vla_client.message_pack import MAX_DEPTH, MAX_ITEMS, ArrayForm, pack, unpack, unpack_with_form

FORMS = get_args(ArrayForm)


def theirs(content: dict) -> bytes:
    """The message that the package msgpack-numpy writes."""
    message = msgpack.packb(content, default=msgpack_numpy.encode)
    assert message is not None
    return message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "<f8", ">i4", "bool", "float16"])
def test_arrays_come_back_read_only(form, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    read = unpack(pack({"a": array, "b": [array[::2].T]}, form))
    np.testing.assert_array_equal(read["a"], array)
    np.testing.assert_array_equal(read["b"][0], array[::2].T)
    assert read["a"].dtype == np.dtype(dtype)
    assert not read["a"].flags.writeable


def test_the_keys_that_mark_an_array_are_bytes_for_openpi():
    array = np.zeros(2, np.float32)
    raw = msgspec.msgpack.decode(pack(array, "bytes_keys"))
    assert raw == {b"__ndarray__": True, b"data": bytes(8), b"dtype": "<f4", b"shape": [2]}


@pytest.mark.parametrize("dtype", ["uint8", "<f4", ">i4", "bool"])
def test_this_and_the_package_msgpack_numpy_read_each_others_messages(dtype):
    content = {"a": np.arange(6).reshape(2, 3).astype(dtype).T, "n": np.float32(1.5), "yes": np.bool_(True)}
    for written in (theirs(content), pack(content, "msgpack_numpy")):
        read, form = unpack_with_form(written)
        np.testing.assert_array_equal(read["a"], content["a"])
        assert (read["a"].dtype, read["n"], read["yes"], form) == (np.dtype(dtype), 1.5, True, "msgpack_numpy")
        read_by_them = msgpack.unpackb(written, object_hook=msgpack_numpy.decode)
        np.testing.assert_array_equal(read_by_them["a"], content["a"])
        assert (read_by_them["n"], read_by_them["yes"]) == (1.5, True)


@pytest.mark.parametrize(
    "value",
    [np.array([{}]), np.zeros(1, [("a", "f4")]), np.array(["a"]), np.zeros(1, "c8"), 1j, np.complex64(1j)],
    ids=str,
)
def test_pickles_structures_text_and_complex_numbers_in_maps_of_msgpack_numpy_are_refused(value):
    with pytest.raises(ProtocolError, match=r"complex|objects|not supported"):
        unpack(theirs({"a": value}))


def test_a_map_may_have_a_key_that_looks_like_a_mark():
    assert unpack(msgspec.msgpack.encode({"nd": True, "type": "robot"})) == {"nd": True, "type": "robot"}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_messages_arrays_is_returned(form):
    assert unpack_with_form(pack({"a": [np.zeros(2)]}, form))[1] == form
    assert unpack_with_form(pack({"a": 3}, form))[1] is None


def test_numpy_scalars_become_numbers():
    assert unpack(pack({"x": np.float32(1.5), "n": np.int64(3), "yes": np.bool_(True)}, "bytes_keys")) == {
        "x": 1.5,
        "n": 3,
        "yes": True,
    }


@given(
    arrays(
        st.sampled_from(["uint8", "<f4", ">f8", "<i8", ">u2", "bool", "float16"]),
        array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
    ),
    st.sampled_from(FORMS),
)
def test_any_array_comes_back_in_any_form(array, form):
    content, written_form = unpack_with_form(pack({"observation": {"images": [array]}}, form))
    read = content["observation"]["images"][0]
    assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert written_form == form


@given(st.binary(max_size=60), st.sampled_from(FORMS))
def test_a_message_of_an_array_with_a_changed_tail_is_read_or_refused(tail, form):
    message = pack({"a": np.arange(8, dtype=np.float32)}, form)
    with suppress(ProtocolError):
        unpack(message[: len(message) - len(tail)] + tail)


@pytest.mark.parametrize("value", [object(), 1j, {1, 2}.__iter__()], ids=lambda value: type(value).__name__)
def test_what_no_message_can_contain_is_named_by_its_type(value):
    with pytest.raises(NotImplementedError, match=type(value).__name__):
        pack({"a": value})


def test_a_text_frame_is_refused():
    with pytest.raises(ProtocolError, match="expected a binary frame, got a text frame"):
        unpack("{}")


# Maps with such keys are arrays. Hypothesis draws the strings of the code that it tests, so it does find them.
NAMES = st.text().filter(lambda name: not name.startswith("__n") and name not in ("nd", "type", "data"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)


@given(PLAIN)
def test_whatever_is_plain_comes_back(content):
    assert unpack(msgspec.msgpack.encode(content)) == content


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(message):
    try:
        unpack(message)
    except ProtocolError:
        return
    msgspec.msgpack.decode(message)


@given(PLAIN, st.data())
def test_an_incomplete_message_is_refused(content, data):
    message = msgspec.msgpack.encode(content)
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(ProtocolError):
        unpack(message[:cut])


def marked(**changes) -> bytes:
    array = {"__ndarray__": True, "data": bytes(8), "dtype": "<f4", "shape": [2], **changes}
    return msgspec.msgpack.encode({"a": array})


def of_msgpack_numpy(**changes) -> bytes:
    """An array with keys of text, as other languages write it."""
    array = {"nd": True, "type": "<f4", "kind": "", "shape": [2], "data": bytes(8), **changes}
    return msgspec.msgpack.encode({"a": array})


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (marked(dtype="O"), "dtype 'O' is not supported"),
        (marked(dtype="V8"), "dtype 'V8' is not supported"),
        (marked(dtype="c8"), "dtype 'c8' is not supported"),
        (marked(dtype=[["a", "f4"]]), "is not supported"),
        (marked(dtype="nonsense"), "dtype 'nonsense' is not supported"),
        (marked(shape=[3]), r"shape \[3\]: expected 12 bytes, got 8"),
        (marked(shape=[-1]), "is not valid"),
        (marked(shape=[2**40, 2**40]), "is not valid"),
        (marked(shape=[1] * 40), "is not valid"),
        (marked(shape=None), "is not valid"),
        (marked(data="text"), "expected bytes, got"),
        (of_msgpack_numpy(kind="O"), "objects or structures"),
        (of_msgpack_numpy(kind=b"V"), "objects or structures"),
        (of_msgpack_numpy(nd=1), "objects or structures"),
        (of_msgpack_numpy(type="O"), "dtype 'O' is not supported"),
        (of_msgpack_numpy(type=[["a", "f4"]]), "is not supported"),
        (of_msgpack_numpy(shape=[3]), "bytes, got 8"),
        (of_msgpack_numpy(nd=False), "bytes, got 8"),
        (of_msgpack_numpy(data=None), "expected bytes, got"),
        (msgspec.msgpack.encode({1: 2}), "a map's key: expected text, got int"),
        (
            msgspec.msgpack.encode({"a": {"__npgeneric__": True, "data": [], "dtype": "<f4"}}),
            "a NumPy scalar's data: expected a number, got list",
        ),
        (b"\x80\x80", "more than one message"),
        (b"\xd4\x01\x00", "extension type"),
        (b"\x91" * (MAX_DEPTH + 1) + b"\xc0", "levels of nesting"),
        (b"\xdd\x00\x02\x00\x00" + b"\x90" * 2**17, f"more than {MAX_ITEMS} items"),
        (b"\xdd\xff\xff\xff\xff", "incomplete"),
        (b"\xc6\xff\xff\xff\xff", "incomplete"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(message, problem):
    with pytest.raises(ProtocolError, match=problem):
        unpack(message)


def test_a_small_message_never_becomes_much_memory():
    message = b"\xdd\x00\x10\x00\x00" + b"\x90" * 2**20
    tracemalloc.start()
    with pytest.raises(ProtocolError):
        unpack(message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6

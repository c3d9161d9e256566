"""Pickles from strangers: what LeRobot's client writes is read, all else refused, and nothing is ever called."""

import builtins
import functools
import os
import pickle
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot_pickles import BEFORE, NOW, Payload, pickled_observation, pickled_record, pickled_setup

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols import unpickling
from vla_server_base.protocols.unpickling import unpickle

PICTURE = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
ARRAYS = {
    "picture": PICTURE,
    "backwards": PICTURE[:, :, ::-1],
    "turned": PICTURE.transpose(1, 0, 2),
    "fortran": np.asfortranarray(PICTURE),
    "big_endian": np.arange(3.0).astype(">f4"),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 3), np.int64),
}


def observation_of(pickled: bytes) -> dict:
    return unpickle(pickled, "TimedObservation").fields["observation"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_come_as_they_were_and_read_only(protocol):
    found = observation_of(pickled_observation(ARRAYS, protocol=protocol))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert not found[name].flags.writeable


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_come_as_they_were(protocol):
    values = {"a": 1.5, "b": 300, "c": -7, "d": 2**40, "e": None, "f": True, "g": ["ü", ("x",)], "h": {"i": b"z"}}
    assert observation_of(pickled_observation(values, protocol=protocol)) == values


def test_numbers_of_numpys_become_pythons():
    found = observation_of(pickled_observation({"a": np.float32(1.5), "b": np.int64(-3), "c": np.bool_(True)}))
    assert found == {"a": 1.5, "b": -3, "c": True}
    assert [type(value) for value in found.values()] == [float, int, bool]


def test_numpy_1s_names_are_known_too():
    pickled = pickled_observation(ARRAYS, protocol=3).replace(b"cnumpy._core.", b"cnumpy.core.")
    np.testing.assert_array_equal(observation_of(pickled)["picture"], PICTURE)


@pytest.mark.parametrize("module", [NOW, BEFORE])
def test_a_record_says_where_it_is_from(module):
    found = unpickle(pickled_observation({}, timestep=7, module=module), "TimedObservation")
    assert (found.module, found.fields["timestep"], found.fields["must_go"]) == (module, 7, True)


def test_a_setup_is_read():
    fields = unpickle(pickled_setup(), "RemotePolicyConfig").fields
    assert fields["lerobot_features"]["observation.state"]["names"] == ["a.pos", "b.pos", "c.pos"]


def test_another_record_than_the_asked_one_is_refused():
    with pytest.raises(ProtocolError, match="does not hold a TimedObservation"):
        unpickle(pickled_setup(), "TimedObservation")
    with pytest.raises(ProtocolError, match=r"helpers\.FPSTracker"):
        unpickle(pickled_record("FPSTracker", {}), "TimedObservation")


CALLS = [
    (os.system, "touch made"),
    (os.mkdir, "made"),
    (builtins.eval, "open('made', 'w')"),
    (builtins.exec, "open('made', 'w')"),
    (builtins.getattr, PICTURE, "tofile"),
    (functools.partial, os.mkdir, "made"),
    (np.fromfile, "/etc/passwd"),
    (np.load, "/etc/passwd", None, True),
    (np.memmap, "made", "u1", "w+", 0, 1),
    (np.zeros, 2**40),
    (np.ndarray, (2**40,)),
    (pickle.loads, pickle.dumps(1)),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0].__qualname__)
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_is_called(call, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for pickled in (
        pickle.dumps(Payload(*call), protocol=protocol),
        pickled_observation({"task": Payload(*call)}, protocol=protocol),
    ):
        with pytest.raises(ProtocolError):
            unpickle(pickled, "TimedObservation")
    assert not list(tmp_path.iterdir())


def test_a_refused_name_is_said_as_far_as_it_is_short():
    with pytest.raises(ProtocolError, match=r"names '(posix|nt)\.system'"):
        unpickle(pickle.dumps(Payload(os.system, "true")), "TimedObservation")
    with pytest.raises(ProtocolError) as refused:
        unpickle(b"c" + b"m" * 1000 + b"\nname\n.", "TimedObservation")
    assert len(refused.value.message) < 130


@pytest.mark.parametrize(
    "value",
    [
        np.array([len], object),
        np.zeros(2, "U5"),
        np.zeros(2, "V2000"),
        np.zeros(2, [("x", "f8"), ("y", "f8")]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, np.complex128),
        np.zeros(2, np.longdouble),
        {1, 2},
        2**64,
        1 + 2j,
        {1: "number"},
        "\ud800",
    ],
    ids=str,
)
@pytest.mark.parametrize("protocol", [4, 5])
def test_other_values_are_refused(value, protocol):
    with pytest.raises(ProtocolError):
        observation_of(pickled_observation({"value": value}, protocol=protocol))


def text(value: bytes) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value


EMPTY_RECORD = f"c{NOW}\nTimedObservation\n)".encode() + pickle.NEWOBJ
NESTED = b")" + b"q\x00h\x00\x86" * 60
"""A tuple of one tuple twice, which is so itself: 2**60 in all."""
DTYPE = (
    b"cnumpy\ndtype\n"
    + text(b"u1")
    + b"\x89\x88\x87R(K\x03"
    + text(b"|")
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


@pytest.mark.parametrize(
    "steps",
    [
        b"}" + NESTED + b"Ns",
        NESTED + b"\x93",
        text(b"os") + NESTED + b"\x93",
        b"cnumpy\ndtype\n" + NESTED + b"\x85R",
        b"cnumpy.core.numeric\n_frombuffer\n(C\x00" + DTYPE + NESTED + text(b"C") + b"tR",
        ARRAY + b"(K\x01" + NESTED + DTYPE + b"\x89C\x00tb",
        ARRAY + b"(K\x01K\x05\x85" + NESTED + b"\x89C\x00tb",
        EMPTY_RECORD + b"}" + text(b"timestep") + NESTED + b"sb" + NESTED + b"\x81",
    ],
)
def test_tuples_that_share_their_parts_are_neither_hashed_nor_shown(steps):
    started = time.monotonic()
    with pytest.raises(ProtocolError):
        unpickle(b"\x80\x04" + steps + b".", "TimedObservation")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "steps",
    [
        ARRAY + b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86" + DTYPE + b"\x89C\x01xtb",
        ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + DTYPE + b"\x89C\x01xtb",
        ARRAY + b"(K\x01K\x01\x85" + DTYPE + b"\x89]tb",
        ARRAY + b"}b",
        DTYPE + b"(K\x03NNNNtb",
        b"cnumpy\ndtype\n" + text(b"V2000000000") + b"\x85R",
        b"cnumpy\ndtype\n" + text(b"f8,f8") + b"\x85R",
        b"cnumpy\ndtype\n" + text(b"O") + b"\x85R",
        b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R",
        b"cnumpy\nndarray\n)\x81",
        b"cnumpy.core.multiarray\nscalar\n" + DTYPE + b"C\x02xx\x86R",
        b"cnumpy.core.multiarray\nscalar\n}b",
        EMPTY_RECORD + b"}}b}",
        b"}(]e",
        b"](]u",
        b"}(]u",
        b"h\x07",
        b"0",
        b"\x97",
        b"\x82\x01",
        b"Pname\n",
        b"(ios\nsystem\n",
        b"\x8a\xff" + b"\x01" * 255,
        struct.pack("<cI", b"\x8b", 2**31 - 1),
        struct.pack("<cQ", b"\x8e", 2**62),
    ],
    ids=repr,
)
def test_what_the_machine_cannot_do_is_refused(steps):
    with pytest.raises(ProtocolError):
        unpickle(b"\x80\x05" + steps + b".", "TimedObservation")


def test_nothing_of_the_servers_own_changes_by_a_state():
    steps = b"cnumpy.core.multiarray\nscalar\n}" + text(b"__defaults__") + b"Nsb."
    with pytest.raises(ProtocolError, match="has none"):
        unpickle(steps, "TimedObservation")


def test_the_number_of_opcodes_is_bounded():
    with pytest.raises(ProtocolError, match="20000 opcodes"):
        unpickle(b"(" * 30_000, "TimedObservation")
    unpickle(EMPTY_RECORD + b"}" + b"q\x00" * (unpickling.MAX_OPCODES - 6) + b"b.", "TimedObservation")


def test_an_array_that_was_never_given_its_content_is_not_there():
    steps = EMPTY_RECORD + b"}" + text(b"value") + ARRAY + b"sb."
    assert unpickle(steps, "TimedObservation").fields == {"value": None}


REAL = [pickled_observation({**ARRAYS, "a.pos": np.float32(1), "task": "go"}, protocol=p) for p in (3, 4, 5)]


def read_or_refused(pickled: bytes) -> None:
    for name in ("TimedObservation", "RemotePolicyConfig"):
        try:
            found = unpickle(pickled, name)
        except ProtocolError:
            continue
        assert isinstance(found.fields, dict)


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(pickled):
    read_or_refused(pickled)


CODES = [bytes([code]) for code in b"}])(.0NKCJcRbsuetqh\x81\x85\x86\x87\x8c\x93\x94"]


@settings(max_examples=500)
@given(st.lists(st.sampled_from([*CODES, NESTED, DTYPE, ARRAY, text(b"key")]), max_size=60))
def test_any_steps_are_read_or_refused(steps):
    read_or_refused(b"\x80\x04" + EMPTY_RECORD + b"".join(steps) + b".")


@settings(max_examples=400)
@given(st.sampled_from(REAL), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4), st.booleans())
def test_any_change_of_a_real_pickle_is_read_or_refused(real, changes, is_cut):
    changed = bytearray(real)
    for place, value in changes:
        changed[place % len(changed)] = value
    read_or_refused(bytes(changed[: changes[0][0]] if is_cut and changes else changed))

"""Pickles from strangers, read without a call to anything that they name: plain values, numpy's arrays, known records.

A pickle is a program for a machine with a stack. The machine here keeps names as names and arrays as bytes, shape and
dtype until all of these are checked; neither `pickle` nor numpy sees a stranger's state. It reads what protocols 3 to 5
write. Follows CPython's Lib/pickletools.py, and the forms that numpy's `array_reduce`, `array_reduce_ex` and
`gentype_reduce` give arrays and numbers.
"""

import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np

from vla_client.arrays import KINDS, array_from_bytes
from vla_server_base.errors import ProtocolError

MAX_OPCODES = 20_000
"""Of one message: each makes at most one object, or refers once more to one that is there."""
MAX_NAME_CHARS = 80
TAKEN = "plain values, numpy arrays of numbers, and LeRobot's RemotePolicyConfig and TimedObservation are"

# Where LeRobot's records are since 0.4, and were before.
_RECORD_MODULES = ("lerobot.async_inference.helpers", "lerobot.scripts.server.helpers")
_RECORDS = ("RemotePolicyConfig", "TimedObservation")
_DTYPE = re.compile(f"[{KINDS}][1248]")
_BYTE_ORDERS = ("<", ">", "=", "|")


@dataclass(frozen=True, kw_only=True)
class Record:
    """An object of a class that stands here for its name alone."""

    module: str
    name: str
    fields: dict[str, Any]


def unpickle(message: bytes, name: str) -> Record:
    """Return the record of this name that a pickle holds, the arrays in it read-only; not for the event loop.

    Arrays are taken as values of dicts, at any depth; dicts have keys of text.

    Raises:
        ProtocolError: it is no such pickle, or names what is not known here.
    """
    machine = _Machine()
    try:
        for num_before, (opcode, argument, _) in enumerate(pickletools.genops(message)):
            if num_before >= MAX_OPCODES:
                raise ProtocolError(f"the pickle has more than {MAX_OPCODES} opcodes", hint="send numbers as arrays")
            machine.step(opcode.name, argument)
        found = machine.result()
    except ProtocolError:
        raise
    except Exception as error:
        # Wrong bytes end in whatever the step that they reach raises: IndexError, struct.error, UnicodeError, ...
        raise ProtocolError(f"the message is no pickle that is read here ({type(error).__name__})") from error
    if not isinstance(found, Record) or found.name != name:
        raise ProtocolError(f"the pickle is no {name}")
    return found


@dataclass(frozen=True)
class _Name:
    module: str
    name: str


@dataclass
class _Dtype:
    name: str
    byte_order: str = "="


@dataclass
class _Array:
    """An array that gets its content after others may have referred to it."""

    content: np.ndarray | None = None


class _Machine:
    """The stack of a pickle; the part above the last mark is apart from what is below."""

    def __init__(self):
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Take one step; raises anything where the steps make no sense."""
        if opcode not in _STEPS:
            raise ProtocolError(f"the pickle has the opcode {opcode}, which is not taken", hint="protocols 3 to 5 are")
        _STEPS[opcode](self, argument)

    def result(self) -> Any:
        """Return what the pickle is."""
        (found,) = self._stack
        return found

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self._stack.append(value)

    def push_number(self, number: float) -> None:
        """Put a number on top; larger ones than numpy's are no robot's."""
        if type(number) is int and number.bit_length() > 63:
            raise ProtocolError("the pickle has a number of more than 64 bits")
        self._stack.append(number)

    def push_text(self, text: str) -> None:
        """Put text on top; pickles can hold halves of characters, which nothing else takes."""
        text.encode()
        self._stack.append(text)

    def push_name(self, argument: str | None) -> None:
        """Put what a global is known as on top."""
        if argument is None:
            name, module = self._stack.pop(), self._stack.pop()
        else:
            module, _, name = argument.partition(" ")
        # Nothing is hashed or shown before it is known to be flat: tuples that share their parts grow without bound.
        if type(module) is not str or type(name) is not str:
            raise ProtocolError("the pickle has a name that is no text")
        if (module, name) not in _KNOWN:
            raise ProtocolError(f"the pickle names '{f'{module}.{name}'[:MAX_NAME_CHARS]}', not taken here", hint=TAKEN)
        self._stack.append(_Name(module, name))

    def mark(self) -> None:
        """Begin a new part."""
        self._below.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        """Take the part above the last mark off."""
        values, self._stack = self._stack, self._below.pop()
        return values

    def last(self, count: int) -> list[Any]:
        """Take so many values off, the top one last."""
        return [self._stack.pop() for _ in range(count)][::-1]

    def append(self, values: list[Any]) -> None:
        """Add values to the list on top."""
        taken = self._stack[-1]
        if type(taken) is not list:
            raise ProtocolError("the pickle appends to what is no list")
        taken += values

    def set_items(self, values: list[Any]) -> None:
        """Add pairs to the dict on top."""
        taken = self._stack[-1]
        if type(taken) is not dict:
            raise ProtocolError("the pickle sets items of what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str:
                raise ProtocolError(f"a dict's key is {type(key).__name__}, not text")
            taken[key] = value.content if isinstance(value, _Array) else value

    def memoize(self, index: int | None) -> None:
        """Remember the top."""
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def recall(self, index: int) -> None:
        """Put what is remembered on top."""
        self._stack.append(self._memo[index])

    def call(self) -> None:
        """Put what a known function would return on top."""
        named, arguments = self.last(2)
        if not isinstance(named, _Name) or named.name not in _CALLED or type(arguments) is not tuple:
            raise ProtocolError("the pickle calls what is no function")
        self._stack.append(_CALLED[named.name](*arguments))

    def make(self) -> None:
        """Put an empty record on top."""
        named, arguments = self.last(2)
        if not isinstance(named, _Name) or named.name not in _RECORDS or arguments:
            raise ProtocolError("the pickle makes what is no record")
        self._stack.append(Record(module=named.module, name=named.name, fields={}))

    def build(self) -> None:
        """Give the object on top its state."""
        state, built = self._stack.pop(), self._stack[-1]
        if isinstance(built, Record) and type(state) is dict:
            built.fields.update(state)
        elif isinstance(built, _Dtype):
            built.byte_order = _checked_byte_order(state[1])
        elif isinstance(built, _Array):
            _, shape, dtype, is_fortran, data = state
            built.content = _array(data, dtype, shape, "F" if is_fortran is True else "C")
        else:
            raise ProtocolError("the pickle gives a state to what takes none")


def _array(data: object, dtype: object, shape: object, order: object = "C", axes: object = None) -> np.ndarray:
    """Return an array by its bytes, of the order C, F, or with its axes in the order that they then have."""
    if not isinstance(dtype, _Dtype) or not _is_flat(shape) or not (axes is None or _is_flat(axes)):
        raise ProtocolError("an array has no dtype, or a shape that is none")
    text = dtype.byte_order + dtype.name
    if order == "F":
        return array_from_bytes(data, text, shape[::-1]).T
    array = array_from_bytes(data, text, shape)
    return array if axes is None else array.transpose(axes)


def _is_flat(sizes: object) -> TypeGuard[tuple[int, ...]]:
    return type(sizes) is tuple and all(type(size) is int for size in sizes)


def _array_to_come(*_: object) -> _Array:
    return _Array()


def _dtype(name: object, *_: object) -> _Dtype:
    shown = name[:40] if isinstance(name, str) else ""
    if not _DTYPE.fullmatch(shown):
        raise ProtocolError(f"dtype '{shown}' is not taken", hint="bool, integers and floats are")
    return _Dtype(shown)


def _checked_byte_order(given: object) -> str:
    if not isinstance(given, str) or given not in _BYTE_ORDERS:
        raise ProtocolError("a dtype has no byte order")
    return given


def _number(dtype: object, data: object) -> float | int | bool:
    return _array(data, dtype, ()).item()


_CALLED: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"_reconstruct": _array_to_come, "_frombuffer": _array, "dtype": _dtype, "scalar": _number}
)
# numpy 2 calls its own modules otherwise than numpy 1.
_KNOWN = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *((module, name) for module in _RECORD_MODULES for name in _RECORDS),
}

_Step = Callable[[_Machine, Any], None]
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")

_STEPS: Mapping[str, _Step] = MappingProxyType(
    {
        **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda *_: None),
        **dict.fromkeys(_NUMBERS, lambda machine, number: machine.push_number(number)),
        **dict.fromkeys(_TEXTS, lambda machine, text: machine.push_text(text)),
        **dict.fromkeys(_BYTES, lambda machine, data: machine.push(bytes(data))),
        "NONE": lambda machine, _: machine.push(None),
        "NEWTRUE": lambda machine, _: machine.push(True),
        "NEWFALSE": lambda machine, _: machine.push(False),
        "MARK": lambda machine, _: machine.mark(),
        "EMPTY_TUPLE": lambda machine, _: machine.push(()),
        "TUPLE1": lambda machine, _: machine.push(tuple(machine.last(1))),
        "TUPLE2": lambda machine, _: machine.push(tuple(machine.last(2))),
        "TUPLE3": lambda machine, _: machine.push(tuple(machine.last(3))),
        "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
        "EMPTY_LIST": lambda machine, _: machine.push([]),
        "APPEND": lambda machine, _: machine.append(machine.last(1)),
        "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
        "EMPTY_DICT": lambda machine, _: machine.push({}),
        "SETITEM": lambda machine, _: machine.set_items(machine.last(2)),
        "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
        **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), lambda machine, index: machine.memoize(index)),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, index: machine.recall(index)),
        **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), lambda machine, name: machine.push_name(name)),
        "REDUCE": lambda machine, _: machine.call(),
        "NEWOBJ": lambda machine, _: machine.make(),
        "BUILD": lambda machine, _: machine.build(),
    }
)

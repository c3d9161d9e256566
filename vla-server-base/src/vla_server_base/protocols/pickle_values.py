"""The values that a client's pickle may build: records, arrays, dtypes and numbers; no function of theirs is called.

Follows the forms that numpy's `array_reduce`, `array_reduce_ex` and `gentype_reduce` give arrays and numbers.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np

from vla_client.arrays import KINDS, array_from_bytes
from vla_server_base.errors import ProtocolError

SUPPORTED = "send plain values, numpy arrays of numbers, and LeRobot's RemotePolicyConfig and TimedObservation"

# Where LeRobot's records are since 0.4, and were before.
_RECORD_MODULES = ("lerobot.async_inference.helpers", "lerobot.scripts.server.helpers")
RECORDS = ("RemotePolicyConfig", "TimedObservation")
_DTYPE = re.compile(f"[{KINDS}][1248]")
_BYTE_ORDERS = ("<", ">", "=", "|")


@dataclass(frozen=True, kw_only=True)
class PickledRecord:
    """An object of a class of LeRobot's, by the class's name."""

    module: str
    name: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class GlobalName:
    """A class or function that a pickle names."""

    module: str
    name: str


@dataclass
class PickledDtype:
    """A dtype, whose byte order follows its name."""

    name: str
    byte_order: str = "="


@dataclass
class PickledArray:
    """An array that gets its content after others may have referred to it."""

    content: np.ndarray | None = None


def set_state(built: object, state: Any) -> None:
    """Give a record, a dtype or an array the state that BUILD has for it."""
    if isinstance(built, PickledRecord) and type(state) is dict:
        built.fields.update(state)
    elif isinstance(built, PickledDtype):
        built.byte_order = _checked_byte_order(state[1])
    elif isinstance(built, PickledArray):
        _, shape, dtype, is_fortran, data = state
        built.content = _array(data, dtype, shape, "F" if is_fortran is True else "C")
    else:
        raise ProtocolError("the pickle sets the state of an object that has none", hint=SUPPORTED)


def _array(data: object, dtype: object, shape: object, order: object = "C", axes: object = None) -> np.ndarray:
    """Return an array from its bytes in order C or F, or with its axes permuted."""
    if not isinstance(dtype, PickledDtype) or not _is_flat(shape) or not (axes is None or _is_flat(axes)):
        raise ProtocolError("an array has an invalid dtype or shape", hint="send numpy arrays as pickle writes them")
    text = dtype.byte_order + dtype.name
    if order == "F":
        return array_from_bytes(data, text, shape[::-1]).T
    array = array_from_bytes(data, text, shape)
    return array if axes is None else array.transpose(axes)


def _is_flat(sizes: object) -> TypeGuard[tuple[int, ...]]:
    return type(sizes) is tuple and all(type(size) is int for size in sizes)


def _empty_array(*_: object) -> PickledArray:
    return PickledArray()


def _dtype(name: object, *_: object) -> PickledDtype:
    shown = name[:40] if isinstance(name, str) else ""
    if not _DTYPE.fullmatch(shown):
        raise ProtocolError(f"dtype '{shown}' is not supported", hint="send bool, integers or floats")
    return PickledDtype(shown)


def _checked_byte_order(order: object) -> str:
    if not isinstance(order, str) or order not in _BYTE_ORDERS:
        raise ProtocolError("a dtype has no byte order", hint="send numpy arrays as pickle writes them")
    return order


def _number(dtype: object, data: object) -> float | int | bool:
    return _array(data, dtype, ()).item()


FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"_reconstruct": _empty_array, "_frombuffer": _array, "dtype": _dtype, "scalar": _number}
)
# numpy 2 has other module names than numpy 1.
KNOWN_NAMES = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *((module, name) for module in _RECORD_MODULES for name in RECORDS),
}

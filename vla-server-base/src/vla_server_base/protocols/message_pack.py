"""MessagePack with arrays in it, as openpi's clients and others' write them.

An array is a map of `__ndarray__`, `data`, `dtype` and `shape`, a number of numpy's one of `__npgeneric__`, `data` and
`dtype`; the keys are bytes with openpi's clients, text with others'. Follows packages/openpi-client's msgpack_numpy.py
of Physical-Intelligence/openpi.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.arrays import array_from_bytes, checked_dtype

MAX_ITEMS = 100_000
"""Of one message: an item of one byte becomes an object of dozens, so a message's length alone bounds nothing."""
MAX_DEPTH = 32

# By the first byte of an item: how many bytes its length takes, or how many bytes follow.
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_LISTS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def unpack(message: bytes | str) -> Any:
    """Return what a message says, its arrays read-only; not for the event loop.

    Raises:
        ProtocolError: it is no MessagePack, or holds too many items or arrays that are not taken.
    """
    if isinstance(message, str):
        raise ProtocolError("a frame of text came, where binary ones are taken")
    _check_size(message)
    try:
        content = msgspec.msgpack.decode(message)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise ProtocolError(f"the message is not MessagePack ({error})") from error
    return _with_arrays(content)


def pack(content: Any, *, as_bytes_keys: bool = False) -> bytes:
    """Return a message; the keys that mark an array are text, or bytes as openpi's clients have them."""

    def mark(array: object) -> dict[str | bytes, Any]:
        if isinstance(array, np.ndarray):
            marked = {"__ndarray__": True, "data": array.tobytes(), "dtype": array.dtype.str, "shape": array.shape}
        elif isinstance(array, np.generic):
            marked = {"__npgeneric__": True, "data": array.item(), "dtype": array.dtype.str}
        else:
            raise NotImplementedError(f"{type(array)} is in no message")
        return {key.encode() if as_bytes_keys else key: value for key, value in marked.items()}

    return msgspec.msgpack.encode(content, enc_hook=mark)


def _check_size(message: bytes) -> None:
    """Walk over the items without making them."""
    place, num_items, ahead = 0, 0, [1]
    end = len(message)
    while ahead:
        if not ahead[-1]:
            ahead.pop()
            continue
        ahead[-1] -= 1
        num_items += 1
        if place >= end:
            raise ProtocolError("the message is cut short")
        if num_items > MAX_ITEMS or len(ahead) > MAX_DEPTH:
            raise ProtocolError(
                f"the message has more than {MAX_ITEMS} items, or is nested deeper than {MAX_DEPTH}",
                hint="send pictures and numbers as arrays",
            )
        place, num_inside = _next_item(message, place)
        if num_inside:
            ahead.append(num_inside)
    if place != end:
        raise ProtocolError("the message is cut short" if place > end else "the frame has more than one message")


def _next_item(message: bytes, place: int) -> tuple[int, int]:
    """Return where the item at a place ends, or its contents begin, and how many items it contains."""
    kind, after = message[place], place + 1
    if 0x80 <= kind <= 0x8F:
        return after, 2 * (kind & 0x0F)
    if 0x90 <= kind <= 0x9F:
        return after, kind & 0x0F
    if 0xA0 <= kind <= 0xBF:
        return after + (kind & 0x1F), 0
    if kind in _LENGTHS:
        size = _LENGTHS[kind]
        return after + size + int.from_bytes(message[after : after + size], "big"), 0
    if kind in _LISTS:
        size, per_entry = _LISTS[kind]
        return after + size, per_entry * int.from_bytes(message[after : after + size], "big")
    if 0xC7 <= kind <= 0xC9 or 0xD4 <= kind <= 0xD8 or kind == 0xC1:
        raise ProtocolError("the message holds an extension type, which is not taken")
    return after + _FIXED.get(kind, 0), 0


def _with_arrays(content: Any) -> Any:
    if isinstance(content, dict):
        if _has(content, "__ndarray__"):
            return array_from_bytes(*(_get(content, key) for key in ("data", "dtype", "shape")))
        if _has(content, "__npgeneric__"):
            return _number(_get(content, "data"), _get(content, "dtype"))
        return {_text(key): _with_arrays(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_arrays(item) for item in content]
    return content


def _has(content: Mapping[Any, Any], key: str) -> bool:
    return key in content or key.encode() in content


def _get(content: Mapping[Any, Any], key: str) -> Any:
    found = content.get(key, content.get(key.encode()))
    return found.decode("ascii", "replace") if key == "dtype" and isinstance(found, bytes) else found


def _text(key: object) -> str:
    if isinstance(key, bytes):
        key = key.decode("utf-8", "replace")
    if not isinstance(key, str):
        raise ProtocolError(f"a map's key is {type(key).__name__}, not text")
    return key


def _number(value: object, dtype: object) -> float | int | bool:
    checked_dtype(dtype)
    if not isinstance(value, bool | int | float):
        raise ProtocolError("a number's data are none")
    return value

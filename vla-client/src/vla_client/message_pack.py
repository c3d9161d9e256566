"""MessagePack with arrays in it, in the four forms in which clients write them.

| form | whose | an array | a number of numpy's |
|---|---|---|---|
| `bytes_keys` | openpi | `__ndarray__`, `data`, `dtype`, `shape` | `__npgeneric__`, `data`, `dtype` |
| `text_keys` | vla-eval | the same | the same |
| `msgpack_numpy` | msgpack-numpy, GR00T N1.7 | `nd`, `type`, `kind`, `shape`, `data` | `nd`, `type`, `data` |
| `npy` | GR00T before N1.7 | `__ndarray_class__`, `as_npy` | |

Each is read with keys of bytes and of text; openpi's own are bytes, and so are msgpack-numpy's. Follows
msgpack_numpy.py of Physical-Intelligence/openpi (packages/openpi-client) and of lebedov/msgpack-numpy, and
gr00t/policy/server_client.py of NVIDIA/Isaac-GR00T.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from vla_client.arrays import array_from_bytes, array_from_npy, checked_dtype, npy_from_array
from vla_server_base.errors import ProtocolError

ArrayForm = Literal["bytes_keys", "text_keys", "msgpack_numpy", "npy"]

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
    return unpack_with_form(message)[0]


def unpack_with_form(message: bytes | str) -> tuple[Any, ArrayForm | None]:
    """Return what a message says, and the form of the first array in it; raises what `unpack` does."""
    if isinstance(message, str):
        raise ProtocolError("a frame of text came, where binary ones are taken")
    _check_size(message)
    try:
        content = msgspec.msgpack.decode(message)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise ProtocolError(f"the message is not MessagePack ({error})") from error
    forms: list[ArrayForm] = []
    return _with_arrays(content, forms), forms[0] if forms else None


def pack(content: Any, form: ArrayForm = "text_keys") -> bytes:
    """Return a message with its arrays in a form."""

    def mark(value: object) -> Mapping[str | bytes, Any]:
        if not isinstance(value, np.ndarray | np.generic):
            raise NotImplementedError(f"{type(value)} is in no message")
        return _marked(value, form)

    return msgspec.msgpack.encode(content, enc_hook=mark)


def _marked(array: np.ndarray | np.generic, form: ArrayForm) -> Mapping[str | bytes, Any]:
    if form == "npy":
        return {"__ndarray_class__": True, "as_npy": npy_from_array(np.asarray(array))}
    dtype, data = array.dtype.str, array.tobytes()
    if form == "msgpack_numpy":
        if isinstance(array, np.generic):
            return {b"nd": False, b"type": dtype, b"data": data}
        return {b"nd": True, b"type": dtype, b"kind": b"", b"shape": array.shape, b"data": data}
    if isinstance(array, np.generic):
        marked = {"__npgeneric__": True, "data": array.item(), "dtype": dtype}
    else:
        marked = {"__ndarray__": True, "data": data, "dtype": dtype, "shape": array.shape}
    return {key.encode() if form == "bytes_keys" else key: value for key, value in marked.items()}


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


def _with_arrays(content: Any, forms: list[ArrayForm]) -> Any:
    """Return content with its arrays and numbers of numpy's, and note their forms."""
    if isinstance(content, list):
        return [_with_arrays(item, forms) for item in content]
    if not isinstance(content, dict):
        return content
    if _has(content, "__ndarray__"):
        forms.append("text_keys" if "__ndarray__" in content else "bytes_keys")
        return array_from_bytes(*(_get(content, key) for key in ("data", "dtype", "shape")))
    if _has(content, "__npgeneric__"):
        return _number(_get(content, "data"), _get(content, "dtype"))
    if _has(content, "__ndarray_class__"):
        forms.append("npy")
        return array_from_npy(_get(content, "as_npy"))
    if all(_has(content, key) for key in ("nd", "type", "data")):
        return _of_msgpack_numpy(content, forms)
    if len(content) == 2 and _has(content, "complex") and _has(content, "data"):
        raise ProtocolError("a complex number is not taken", hint="bool, integers and floats are")
    return {_text(key): _with_arrays(value, forms) for key, value in content.items()}


def _of_msgpack_numpy(content: Mapping[Any, Any], forms: list[ArrayForm]) -> Any:
    data, dtype = _get(content, "data"), _get(content, "type")
    if _get(content, "nd") is False:
        return array_from_bytes(data, dtype, []).item()
    # Of other kinds, O is a pickle and V has structures.
    if _get(content, "nd") is not True or _get(content, "kind") not in ("", None):
        raise ProtocolError(
            "an array of msgpack-numpy's is of objects or structures", hint="bool, integers and floats are taken"
        )
    forms.append("msgpack_numpy")
    return array_from_bytes(data, dtype, _get(content, "shape"))


def _has(content: Mapping[Any, Any], key: str) -> bool:
    return key in content or key.encode() in content


def _get(content: Mapping[Any, Any], key: str) -> Any:
    found = content.get(key, content.get(key.encode()))
    names_something = key in ("dtype", "type", "kind") and isinstance(found, bytes)
    return found.decode("ascii", "replace") if names_something else found


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

"""MessagePack with arrays, in the four forms that clients use.

| form | used by | an array | a NumPy scalar |
|---|---|---|---|
| `bytes_keys` | openpi | `__ndarray__`, `data`, `dtype`, `shape` | `__npgeneric__`, `data`, `dtype` |
| `text_keys` | vla-eval | the same | the same |
| `msgpack_numpy` | msgpack-numpy, GR00T N1.7 | `nd`, `type`, `kind`, `shape`, `data` | `nd`, `type`, `data` |
| `npy` | GR00T before N1.7 | `__ndarray_class__`, `as_npy` | |

Keys may be bytes or text in each form; openpi and msgpack-numpy write bytes. Follows
msgpack_numpy.py of Physical-Intelligence/openpi (packages/openpi-client) and of lebedov/msgpack-numpy, and
gr00t/policy/server_client.py of NVIDIA/Isaac-GR00T.
"""

from collections.abc import Mapping
from typing import Any, Literal, Optional, Union

import msgspec
import numpy as np

from vla_client.arrays import array_from_bytes, array_from_npy, checked_dtype, npy_from_array
from vla_client.errors import ProtocolError

ArrayForm = Literal["bytes_keys", "text_keys", "msgpack_numpy", "npy"]

MAX_ITEMS = 100_000
"""Per message. An item of one byte becomes an object of dozens, so limiting the bytes does not limit the memory."""
MAX_DEPTH = 32

# By the first byte of an item: the number of bytes of its length field, or the number of bytes that follow.
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_LISTS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


_ENCODING_HINT = "encode each message with a MessagePack library and send it in one frame"
_SUPPORTED_HINT = "send booleans, integers or floats"


def unpack(message: Union[bytes, str]) -> Any:
    """Return the content of a message with read-only arrays. A large message would block an event loop.

    Raises:
        ProtocolError: the message is not MessagePack, has too many items, or has unsupported arrays.
    """
    return unpack_with_form(message)[0]


def unpack_with_form(message: Union[bytes, str]) -> tuple[Any, Optional[ArrayForm]]:
    """Return the content of a message and the form of its first array; see `unpack`."""
    if isinstance(message, str):
        raise ProtocolError("expected a binary frame, got a text frame", hint="send MessagePack in binary frames")
    _check_size(message)
    try:
        content = msgspec.msgpack.decode(message)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise ProtocolError(f"the message is not valid MessagePack: {error}", hint=_ENCODING_HINT) from error
    forms: list[ArrayForm] = []
    return _with_arrays(content, forms), forms[0] if forms else None


def pack(content: Any, form: ArrayForm = "text_keys") -> bytes:
    """Return the message of some content, with its arrays in a form."""

    def mark(value: object) -> Mapping[Union[str, bytes], Any]:
        if not isinstance(value, (np.ndarray, np.generic)):
            raise NotImplementedError(f"a message cannot contain {type(value)}")
        return _marked(value, form)

    return msgspec.msgpack.encode(content, enc_hook=mark)


def _marked(array: Union[np.ndarray, np.generic], form: ArrayForm) -> Mapping[Union[str, bytes], Any]:
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
    """Check the number and the nesting of the items without creating them."""
    place, num_items, num_left = 0, 0, [1]
    end = len(message)
    while num_left:
        if not num_left[-1]:
            num_left.pop()
            continue
        num_left[-1] -= 1
        num_items += 1
        if place >= end:
            raise ProtocolError("the message is incomplete", hint=_ENCODING_HINT)
        if num_items > MAX_ITEMS or len(num_left) > MAX_DEPTH:
            raise ProtocolError(
                f"the message has more than {MAX_ITEMS} items or more than {MAX_DEPTH} levels of nesting",
                hint="send images and lists of numbers as arrays",
            )
        place, num_inside = _next_item(message, place)
        if num_inside:
            num_left.append(num_inside)
    if place != end:
        problem = "the message is incomplete" if place > end else "the frame has more than one message"
        raise ProtocolError(problem, hint=_ENCODING_HINT)


def _next_item(message: bytes, place: int) -> tuple[int, int]:
    """Return where the item at a place ends or its contents begin, and how many items it contains."""
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
        raise ProtocolError(
            "the message has an extension type", hint="send arrays in one of the forms of docs/clients.md"
        )
    return after + _FIXED.get(kind, 0), 0


def _with_arrays(content: Any, forms: list[ArrayForm]) -> Any:
    """Return content with its arrays and NumPy scalars decoded, and append the arrays' forms to `forms`."""
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
        raise ProtocolError("complex numbers are not supported", hint=_SUPPORTED_HINT)
    return {_text(key): _with_arrays(value, forms) for key, value in content.items()}


def _of_msgpack_numpy(content: Mapping[Any, Any], forms: list[ArrayForm]) -> Any:
    data, dtype = _get(content, "data"), _get(content, "type")
    if _get(content, "nd") is False:
        return array_from_bytes(data, dtype, []).item()
    # Kind O would be a pickle, and kind V has structures.
    if _get(content, "nd") is not True or _get(content, "kind") not in ("", None):
        raise ProtocolError("arrays of objects or structures are not supported", hint=_SUPPORTED_HINT)
    forms.append("msgpack_numpy")
    return array_from_bytes(data, dtype, _get(content, "shape"))


def _has(content: Mapping[Any, Any], key: str) -> bool:
    return key in content or key.encode() in content


def _get(content: Mapping[Any, Any], key: str) -> Any:
    value = content.get(key, content.get(key.encode()))
    is_name = key in ("dtype", "type", "kind") and isinstance(value, bytes)
    return value.decode("ascii", "replace") if is_name else value


def _text(key: object) -> str:
    if isinstance(key, bytes):
        key = key.decode("utf-8", "replace")
    if not isinstance(key, str):
        raise ProtocolError(f"a map's key: expected text, got {type(key).__name__}", hint="use text as keys")
    return key


def _number(value: object, dtype: object) -> Union[float, int, bool]:
    checked_dtype(dtype)
    if not isinstance(value, (bool, int, float)):
        raise ProtocolError(
            f"a NumPy scalar's data: expected a number, got {type(value).__name__}", hint=_SUPPORTED_HINT
        )
    return value

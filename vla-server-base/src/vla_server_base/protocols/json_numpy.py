"""JSON with arrays in it, as json-numpy's users write it.

An array is an object of `__numpy__` (base64 of its bytes), `dtype` and `shape`; a numpy scalar has the shape [].
Follows json_numpy.py of Crimson-Crow/json-numpy, without patching anything.
"""

import base64
import binascii
import json
from typing import Any

import msgspec
import numpy as np

from vla_client.arrays import array_from_bytes
from vla_server_base.errors import ProtocolError
from vla_server_base.schemas.json_items import check_num_items


def loads(text: str | bytes) -> Any:
    """Return the content of a message, its arrays read-only; not for the event loop.

    Raises:
        ProtocolError: it is not JSON, or holds too many items or unsupported arrays.
    """
    try:
        check_num_items(text.encode() if isinstance(text, str) else text)
        # Unlike `json`, it refuses lone surrogates, which cannot be encoded again.
        return _with_arrays(msgspec.json.decode(text))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(
            f"the message is not JSON ({str(error)[:200]})", hint="send what json_numpy writes"
        ) from error


def dumps(content: Any) -> str:
    """Return a message."""
    return json.dumps(content, default=_marked, allow_nan=False)


def _with_arrays(content: Any) -> Any:
    if isinstance(content, list):
        return [_with_arrays(item) for item in content]
    if not isinstance(content, dict):
        return content
    if "__numpy__" in content:
        return _array(content)
    return {name: _with_arrays(value) for name, value in content.items()}


def _array(content: dict[str, Any]) -> Any:
    data = content["__numpy__"]
    try:
        raw = base64.b64decode(data, validate=True) if isinstance(data, str) else None
    except (binascii.Error, ValueError):
        raw = None
    if raw is None:
        raise ProtocolError("an array's __numpy__ is not base64", hint="send what json_numpy writes")
    array = array_from_bytes(raw, content.get("dtype"), content.get("shape"))
    return array if array.ndim else array.item()


def _marked(array: object) -> dict[str, Any]:
    if not isinstance(array, np.ndarray | np.generic):
        raise TypeError(f"{type(array)} cannot be written")
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"__numpy__": data, "dtype": array.dtype.str, "shape": array.shape}

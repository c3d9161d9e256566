"""Arrays from untrusted bytes: numbers only, of exactly the size of the bytes, read-only."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_client.errors import ProtocolError

KINDS = "biuf"
"""Booleans, integers and floating-point numbers; no objects, no structures."""
MAX_DIMS = 8

_SUPPORTED = "send an array of booleans, integers or floats of at most 8 bytes each"


def array_from_bytes(data: object, dtype: object, shape: object) -> np.ndarray:
    """Return the array that a client's bytes, dtype and shape describe, as a view of the bytes.

    Raises:
        ProtocolError: they do not match, or are of an unsupported kind.
    """
    element = checked_dtype(dtype)
    sizes = _checked_shape(shape)
    if not isinstance(data, bytes):
        raise ProtocolError(
            f"an array's data: expected bytes, got {type(data).__name__}", hint="send what array.tobytes() returns"
        )
    num_bytes = math.prod(sizes) * element.itemsize
    if num_bytes != len(data):
        raise ProtocolError(
            f"an array of {element} and shape {list(sizes)}: expected {num_bytes} bytes, got {len(data)}",
            hint="send array.tobytes() with the dtype and the shape of the same array",
        )
    return np.frombuffer(data, element).reshape(sizes)


def array_from_npy(content: object) -> np.ndarray:
    """Return the array in a .npy file, as a view of the bytes; numpy.load would allocate the size in its header.

    Raises:
        ProtocolError: the file is damaged, or the array is of an unsupported kind.
    """
    if not isinstance(content, bytes):
        raise ProtocolError(
            f"an array's .npy file: expected bytes, got {type(content).__name__}", hint="send what numpy.save writes"
        )
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = readers[version](file)
    except Exception as error:  # the reader raises nearly anything on damaged bytes
        raise ProtocolError(
            "an array's .npy file has no valid header", hint="send what numpy.save writes, in version 1.0 or 2.0"
        ) from error
    array = array_from_bytes(content[file.tell() :], dtype.str, shape[::-1] if is_fortran else shape)
    return array.T if is_fortran else array


def npy_from_array(array: np.ndarray) -> bytes:
    """Return an array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def checked_dtype(dtype: object) -> np.dtype:
    """Return the dtype of a name.

    Raises:
        ProtocolError: the name is unknown, or the dtype is not one of supported numbers.
    """
    try:
        # The length is limited because the description of a structure may be of any size.
        element = np.dtype(dtype) if isinstance(dtype, str) and len(dtype) <= 16 else None
    except (TypeError, ValueError):
        element = None
    if element is None or element.kind not in KINDS or element.itemsize > 8:
        raise ProtocolError(f"dtype {str(dtype)[:40]!r} is not supported", hint=_SUPPORTED)
    return element


def _checked_shape(shape: Any) -> Sequence[int]:
    is_list = isinstance(shape, (list, tuple)) and len(shape) <= MAX_DIMS
    if not is_list or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise ProtocolError(
            f"shape {str(shape)[:40]} is not valid", hint=f"send a list of at most {MAX_DIMS} sizes of 0 or more"
        )
    return shape

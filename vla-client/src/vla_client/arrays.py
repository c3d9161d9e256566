"""Arrays from strangers: numbers only, of a size that fits what was sent, never to be written to."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_server_base.errors import ProtocolError

KINDS = "biuf"
"""Booleans, integers and floating-point numbers; neither objects nor structures."""
MAX_DIMS = 8


def array_from_bytes(data: object, dtype: object, shape: object) -> np.ndarray:
    """Return the array that a client's bytes, dtype and shape stand for, as a view of the bytes.

    Raises:
        ProtocolError: they do not fit one another, or are of a kind that is not taken.
    """
    kind = checked_dtype(dtype)
    sizes = _checked_shape(shape)
    if not isinstance(data, bytes):
        raise ProtocolError("an array's data are not bytes")
    if math.prod(sizes) * kind.itemsize != len(data):
        raise ProtocolError(f"an array of {kind} and shape {list(sizes)} does not have {len(data)} bytes")
    return np.frombuffer(data, kind).reshape(sizes)


def array_from_npy(content: object) -> np.ndarray:
    """Return the array in a .npy file, as a view of the bytes; numpy itself would allocate whatever its head says.

    Raises:
        ProtocolError: it is none, or of a kind that is not taken.
    """
    if not isinstance(content, bytes):
        raise ProtocolError("an array's .npy file is not bytes")
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_head = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, is_fortran, dtype = read_head(file)
    except Exception as error:  # a stranger's bytes make the reader of the head raise nearly anything
        raise ProtocolError("an array's bytes are no .npy file") from error
    order = shape[::-1] if is_fortran else shape
    array = array_from_bytes(content[file.tell() :], dtype.str, order)
    return array.T if is_fortran else array


def npy_from_array(array: np.ndarray) -> bytes:
    """Return the .npy file of an array."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def checked_dtype(dtype: object) -> np.dtype:
    """Return a dtype of numbers by its name.

    Raises:
        ProtocolError: it is none, or none that is taken.
    """
    try:
        # Short, since a structure's description may be of any size.
        kind = np.dtype(dtype) if isinstance(dtype, str) and len(dtype) <= 16 else None
    except (TypeError, ValueError):
        kind = None
    if kind is None or kind.kind not in KINDS or kind.itemsize > 8:
        raise ProtocolError(f"dtype {str(dtype)[:40]!r} is not taken", hint="bool, integers and floats are")
    return kind


def _checked_shape(shape: Any) -> Sequence[int]:
    is_list = isinstance(shape, list | tuple) and len(shape) <= MAX_DIMS
    if not is_list or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise ProtocolError(f"shape {str(shape)[:40]} is none", hint=f"at most {MAX_DIMS} sizes, none of them negative")
    return shape

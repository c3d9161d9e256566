"""Trees of arrays in the msgpack form of flax.serialization: what the reference's checkpoints are written in.

A map of maps whose leaves are extension values: 1 an array as (shape, dtype name, bytes in C order),
2 a complex number as (real, imaginary), 3 a numpy scalar, written as an array is. An array of more than
2**30 bytes is a map {"__msgpack_chunked_array__": True, "shape": {"0": ...}, "chunks": {"0": ...}}
of flat pieces.
"""

from collections.abc import Mapping
from io import BufferedIOBase
from typing import Any

import ml_dtypes
import msgpack
import numpy as np

ARRAY, COMPLEX, SCALAR = 1, 2, 3
CHUNK_BYTES = 2**30
CHUNKED = "__msgpack_chunked_array__"
# Dtypes that numpy alone does not know by name.
EXTRA_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def read_tree(buffer: Any) -> Any:
    """Decode a tree from anything with a buffer; arrays are read-only. Nothing is ever unpickled.

    Raises:
        ValueError: the buffer is not such a tree, or not the whole of one.
    """
    try:
        return _joined(msgpack.unpackb(buffer, ext_hook=_from_extension))
    except (
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
        msgpack.UnpackException,
    ) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def write_tree(file: BufferedIOBase, tree: Any, chunk_bytes: int = CHUNK_BYTES) -> None:
    """Write a tree leaf by leaf, keys in the order given, so that no second copy of it is ever in memory."""
    if isinstance(tree, Mapping):
        file.write(msgpack.Packer().pack_map_header(len(tree)))
        for key, value in tree.items():
            msgpack.pack(key, file)
            write_tree(file, value, chunk_bytes)
    elif isinstance(tree, np.ndarray) and tree.nbytes > chunk_bytes:
        write_tree(file, _in_chunks(tree, chunk_bytes), chunk_bytes)
    else:
        msgpack.pack(_to_extension(tree), file)


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters by path as nested dicts, the form in which the reference keeps them."""
    tree: dict[str, Any] = {}
    for path, value in params.items():
        *modules, name = path.split("/")
        place = tree
        for module in modules:
            place = place.setdefault(module, {})
        place[name] = value
    return tree


def _from_extension(code: int, data: bytes) -> Any:
    if code in (ARRAY, SCALAR):
        shape, dtype, content = msgpack.unpackb(data)
        array = np.frombuffer(content, _dtype_named(dtype)).reshape(shape)
        return array if code == ARRAY else array[()]
    if code == COMPLEX:
        return complex(*msgpack.unpackb(data))
    raise ValueError(f"an extension value of kind {code}, which is not one of flax's")


def _dtype_named(name: str) -> np.dtype:
    dtype = np.dtype(getattr(ml_dtypes, name) if name in EXTRA_DTYPES else name)
    if dtype.kind not in "biufc" and name not in EXTRA_DTYPES:
        raise ValueError(f"an array of dtype '{name}', which is not a kind of number")
    return dtype


def _joined(tree: Any) -> Any:
    """Put arrays that were written in pieces together again."""
    if not isinstance(tree, dict):
        return tree
    if CHUNKED not in tree:
        return {key: _joined(value) for key, value in tree.items()}
    pieces = [tree["chunks"][str(index)] for index in range(len(tree["chunks"]))]
    shape = [tree["shape"][str(axis)] for axis in range(len(tree["shape"]))]
    joined = np.concatenate(pieces).reshape(shape)
    joined.flags.writeable = False
    return joined


def _in_chunks(array: np.ndarray, chunk_bytes: int) -> dict[str, Any]:
    flat, length = array.reshape(-1), max(1, chunk_bytes // array.itemsize)
    pieces = [flat[start : start + length] for start in range(0, flat.size, length)]
    return {
        CHUNKED: True,
        "shape": {str(axis): size for axis, size in enumerate(array.shape)},
        "chunks": {str(index): piece for index, piece in enumerate(pieces)},
    }


def _to_extension(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray | np.generic):
        array = np.asarray(leaf)
        if array.dtype.hasobject:
            raise ValueError("arrays of Python objects cannot be written")
        content = msgpack.packb((array.shape, array.dtype.name, array.tobytes()))
        return msgpack.ExtType(ARRAY if isinstance(leaf, np.ndarray) else SCALAR, content)
    if isinstance(leaf, complex):
        return msgpack.ExtType(COMPLEX, msgpack.packb((leaf.real, leaf.imag)))
    return leaf

"""Parameters in one safetensors file, memory-mapped: starting costs nothing until a weight is first read.

A plain safetensors file: the little-endian length of a JSON header, the header, the arrays back to back.
Read here rather than with the library, whose numpy arrays are copies.
"""

import json
import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

DTYPE_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
DTYPES = {code: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name, code in DTYPE_CODES.items()}
# XLA on a CPU takes an array without copying it where it starts on a cache line.
ALIGNMENT = 64


def write_weights(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; at every moment `path` is absent or complete, even if other processes write it too."""
    # Sizes that keep the alignment come first, then the widest items, so that every array lies aligned.
    names = sorted(arrays, key=lambda name: (arrays[name].nbytes % ALIGNMENT > 0, -arrays[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        array, start = arrays[name], end
        end = start + array.nbytes
        code = DTYPE_CODES[array.dtype.name]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                file.write(raw_bytes(arrays[name]))
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


def map_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Map a safetensors file: read-only arrays that are views on it, and the metadata in its header.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    start = 8 + int.from_bytes(content[:8], "little")
    if start > len(content):
        raise ValueError("its header is cut short")
    header = json.loads(bytes(content[8:start]))
    try:
        metadata = header.pop("__metadata__", {})
        if start + max((entry["data_offsets"][1] for entry in header.values()), default=0) != len(content):
            raise ValueError("its size is not the one its header says")
        arrays = {name: _view(content[start:], **entry) for name, entry in header.items()}
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"its header is not one of safetensors ({error})") from error
    return arrays, metadata


def leave_to_disk(array: np.ndarray) -> bool:
    """Give back the memory of the whole file that `array` is mapped from; what is read again comes from the disk.

    Returns False where it is not mapped.
    """
    mapped: Any = array
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    mapped = mapped.obj if isinstance(mapped, memoryview) else mapped
    if not isinstance(mapped, mmap.mmap):
        return False
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
    return True


def raw_bytes(array: np.ndarray) -> memoryview:
    """Return an array's bytes in C order, without a copy where it lies so."""
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _view(content: memoryview, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    start, end = data_offsets
    return np.frombuffer(content[start:end], DTYPES[dtype]).reshape(shape)

"""Parameters of one step, from any stored form, through a memory-mapped copy."""

import ctypes
import hashlib
import logging
import mmap
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from octo_service.checkpoints.flax_msgpack import read_tree
from octo_service.checkpoints.ocdbt import read_stored_arrays
from octo_service.checkpoints.weight_file import DTYPE_CODES, map_weights, raw_bytes, write_weights
from octo_service.errors import CheckpointError

logger = logging.getLogger(__name__)

# What orbax writes in the place of a parameter that is stored elsewhere.
PLACEHOLDER = "PLACEHOLDER://"
# Part of the name of a converted file; raise it when what is written there changes.
CACHE_FORMAT = 1
SAFETENSORS = "params.safetensors"
Content = TypeVar("Content")


def load_params(item: Path, cache_dir: Path | None) -> tuple[dict[str, np.ndarray], str]:
    """Load the parameters in one step's `default` folder, read-only, by path, and their hash.

    A safetensors file is mapped where it is. Of the other forms, with a `cache_dir`, they are views on a file there,
    written on first use, and again if it is damaged.

    Raises:
        CheckpointError: a file is missing or damaged; the message names it.
    """
    if (item / SAFETENSORS).is_file():
        params = _map_params(item / SAFETENSORS)
        return params, hash_of(params)
    if cache_dir is None:
        params = _read_params(item)
        return params, hash_of(params)
    converted = Path(cache_dir) / "checkpoints" / f"{item.parent.name}-{_fingerprint(item)}.safetensors"
    try:
        params, metadata = map_weights(converted)
        return params, metadata["params_hash"]
    except FileNotFoundError:
        logger.info("converting %s once into %s", item, converted)
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s is damaged (%s); converting %s again", converted, error, item)
    params = _read_params(item)
    params_hash = hash_of(params)
    try:
        write_weights(converted, params, {"params_hash": params_hash, "source": str(item)})
        params = map_weights(converted)[0]
    except OSError as error:
        logger.warning("cannot keep converted parameters (%s); the next start reads %s again", error, item)
    _give_back_freed_memory()
    return params, params_hash


def hash_of(params: Mapping[str, np.ndarray]) -> str:
    """Hash paths, shapes and little-endian bytes: the same for every form that parameters are stored in."""
    digest = hashlib.sha256()
    for path in sorted(params):
        digest.update(f"{path}{params[path].shape}".encode())
        digest.update(raw_bytes(params[path]))
    return digest.hexdigest()


def read_file(path: Path, decode: Callable[[Any], Content]) -> Content:
    """Decode a whole file; everything that can be wrong with it becomes one sentence that names it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return decode(content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing", hint="copy or download the checkpoint again") from error
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is damaged or in another format ({str(error)[:200]})", hint="copy or download it again"
        ) from error


def _give_back_freed_memory() -> None:
    """Have glibc return what was freed: half of a checkpoint that was read would stay with the process."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _fingerprint(item: Path) -> str:
    """Name what a folder holds without reading it: where its files really lie, their sizes and times."""
    files = sorted(path for path in item.rglob("*") if path.is_file())
    stats = [(str(path.relative_to(item)), path.resolve(), path.stat()) for path in files]
    facts = [(name, str(place), stat.st_size, stat.st_mtime_ns) for name, place, stat in stats]
    return hashlib.sha256(repr((CACHE_FORMAT, facts)).encode()).hexdigest()[:24]


def _map_params(path: Path) -> dict[str, np.ndarray]:
    try:
        return dict(sorted(map_weights(path)[0].items()))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({str(error)[:200]})", hint="copy or download it again") from error


def _read_params(item: Path) -> dict[str, np.ndarray]:
    if (item / "checkpoint").is_file():
        leaves = _read_aggregated(item)
    elif any(item.glob("manifest.ocdbt")) or any(item.glob("*/.zarray")) or any(item.glob("*/zarr.json")):
        leaves = {name.replace(".", "/"): array for name, array in read_stored_arrays(item).items()}
    else:
        raise CheckpointError(f"{item / 'checkpoint'} is missing", hint="copy or download the checkpoint again")
    for path, leaf in leaves.items():
        if not isinstance(leaf, np.ndarray) or leaf.dtype.name not in DTYPE_CODES:
            raise CheckpointError(
                f"{item}: parameter {path} is not an array of numbers", hint="give a checkpoint of Octo"
            )
        leaf.flags.writeable = False
    return dict(sorted(leaves.items()))


def _read_aggregated(item: Path) -> dict[str, Any]:
    """Read the one-file form; leaves that it only names are read from where they are stored."""
    leaves = _flat(read_file(item / "checkpoint", read_tree))
    names = {path: leaf.removeprefix(PLACEHOLDER) for path, leaf in leaves.items() if isinstance(leaf, str)}
    stored = read_stored_arrays(item) if names else {}
    if absent := [name for name in names.values() if name not in stored]:
        raise CheckpointError(
            f"{item} names {len(absent)} parameters that are not stored there ({', '.join(absent[:3])})",
            hint="copy or download the whole folder again",
        )
    return leaves | {path: stored[name] for path, name in names.items()}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.removesuffix("/"): tree}
    return {path: leaf for name, value in tree.items() for path, leaf in _flat(value, f"{prefix}{name}/").items()}

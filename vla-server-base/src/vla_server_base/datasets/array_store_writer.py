"""Writes array stores: an episode is complete on disk when `append` returns."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from vla_server_base.datasets.array_store import (
    HEADER,
    IMAGE,
    INDEX,
    VERSION,
    ArrayStore,
    StoreHeader,
    array_path,
    bytes_per_timestep,
    read_header,
    read_index,
)
from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.errors import DatasetError


class ArrayStoreWriter:
    """Adds episodes to a store, and creates it with the first one if `folder` has none.

    An appended episode is in every store that is opened afterwards, even before `close` and after a power failure.

    >>> with ArrayStoreWriter("cache", fps=5) as writer:
    ...     writer.append(episode)

    Raises:
        DatasetError: the store in `folder` is damaged, has another `fps`, or another process writes to it.
    """

    def __init__(self, folder: Path | str, fps: float):
        self._folder, self._fps = Path(folder), fps
        self._folder.mkdir(parents=True, exist_ok=True)
        self._index = open(self._folder / INDEX, "ab")  # noqa: SIM115
        self._files: dict[str, IO[bytes]] = {}
        self._header: StoreHeader | None = None
        try:
            self._lock()
            if (self._folder / HEADER).exists():
                self._resume()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "ArrayStoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, episode: RecordedEpisode) -> None:
        """Add an episode; when this returns, it is on disk.

        Raises:
            DatasetError: its arrays differ from those of the store in name, type or shape.
        """
        arrays = _arrays_of(episode)
        kinds = {name: (array.dtype.str, array.shape[1:]) for name, array in arrays.items()}
        if self._header is None:
            self._begin(StoreHeader(fps=self._fps, arrays=kinds))
        elif kinds != self._header.arrays:
            raise DatasetError(
                f"the episode's arrays do not fit the store: {_difference(kinds, self._header.arrays)}",
                hint="write episodes of another kind to another folder",
            )
        for name, array in arrays.items():
            self._files[name].write(np.ascontiguousarray(array).data)
            _sync(self._files[name])
        line = {"length": len(episode), "instruction": episode.instruction, "metadata": dict(episode.metadata)}
        self._index.write(json.dumps(line).encode() + b"\n")
        _sync(self._index)

    def close(self) -> None:
        """Close the files; everything is written already."""
        for file in (self._index, *self._files.values()):
            file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(
                f"another process writes to {self._folder}", hint="wait for it, or use another folder"
            ) from None

    def _begin(self, header: StoreHeader) -> None:
        content = {
            "version": VERSION,
            "fps": header.fps,
            "arrays": {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in header.arrays.items()},
        }
        new = self._folder / f"{HEADER}.new"
        new.write_text(json.dumps(content, indent=2) + "\n")
        new.replace(self._folder / HEADER)
        self._open(header, num_steps=0)

    def _resume(self) -> None:
        """Remove what follows the last complete episode."""
        header = read_header(self._folder)
        if header.fps != self._fps:
            raise DatasetError(
                f"{self._folder} has {header.fps:g} fps; expected {self._fps:g}", hint="write to another folder"
            )
        # Opened for its checks: truncate() would extend an array that is too short with zeros.
        ArrayStore(self._folder)
        episodes, num_bytes = read_index(self._folder / INDEX)
        self._index.truncate(num_bytes)
        self._open(header, num_steps=sum(episode["length"] for episode in episodes))

    def _open(self, header: StoreHeader, num_steps: int) -> None:
        self._header = header
        for name, form in header.arrays.items():
            self._files[name] = file = open(array_path(self._folder, name), "ab")  # noqa: SIM115
            file.truncate(num_steps * bytes_per_timestep(*form))


def _arrays_of(episode: RecordedEpisode) -> dict[str, np.ndarray]:
    arrays = {f"{IMAGE}{name}": np.asarray(frames) for name, frames in episode.images.items()}
    arrays["actions"] = episode.actions
    optional = {name: getattr(episode, name) for name in ("proprio", "environment_state", "expert_drove")}
    return arrays | {name: array for name, array in optional.items() if array is not None}


def _difference(given: Mapping[str, tuple[Any, ...]], expected: Mapping[str, tuple[Any, ...]]) -> str:
    """Describe the arrays that differ."""

    def kind(arrays: Mapping[str, tuple[Any, ...]], name: str) -> str:
        return "none" if name not in arrays else f"{np.dtype(arrays[name][0])} of shape {arrays[name][1]} per timestep"

    names = [name for name in sorted(given.keys() | expected.keys()) if given.get(name) != expected.get(name)]
    return ", ".join(f"{name} is {kind(given, name)}, expected {kind(expected, name)}" for name in names)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())

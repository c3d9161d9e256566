"""Recorded episodes as raw arrays: a folder that is fast to train from and safe to interrupt.

    store.json          what each array is: {"version", "fps", "arrays": {name: {"dtype", "shape" of a timestep}}}
    <name>.raw          one array of all episodes, one after another: image_<camera>, proprio, actions, expert_drove
    episodes.jsonl      an episode a line: {"length", "instruction", "metadata"}

An episode is there as soon as its line is, which is written last; what stands behind the last line is cut off by
the next writer. Arrays are little-endian and in C order.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np

from vla_server_base.datasets.episode import RecordedEpisode, said_of
from vla_server_base.datasets.json_lines import read_rows
from vla_server_base.errors import DatasetError

HEADER, INDEX = "store.json", "episodes.jsonl"
VERSION = 1
IMAGE = "image_"


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What `store.json` holds; arrays by name, each a dtype and the shape of one timestep."""

    fps: float
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]


class ArrayStore:
    """Reads a folder that `ArrayStoreWriter` wrote, with the episodes that were there when it was opened.

    Nothing is read before it is asked for, and nothing is copied: an episode's arrays are views of files that are
    mapped into memory, so `store[i].images["primary"][t]` reads one frame. Any number of threads may.

    Raises:
        DatasetError: there is no store in the folder, or it is damaged.
    """

    def __init__(self, folder: Path | str):
        self._folder = Path(folder)
        header = _read_header(self._folder)
        self._episodes, _ = _read_index(self._folder / INDEX)
        self._starts = [0, *accumulate(episode["length"] for episode in self._episodes)]
        self._fps = header.fps
        self._arrays = {name: self._mapped(name, *form) for name, form in header.arrays.items()}

    @property
    def fps(self) -> float:
        return self._fps

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> RecordedEpisode:
        episode = self._episodes[index]
        start = self._starts[index % len(self)]
        arrays = {name: array[start : start + episode["length"]] for name, array in self._arrays.items()}
        with said_of(f"episode {self.name(index)} of {self._folder}"):
            return RecordedEpisode.of(
                images={name.removeprefix(IMAGE): array for name, array in arrays.items() if name.startswith(IMAGE)},
                proprio=arrays.get("proprio"),
                environment_state=arrays.get("environment_state"),
                actions=arrays["actions"],
                instruction=episode["instruction"],
                expert_drove=arrays.get("expert_drove"),
                metadata=episode["metadata"],
            )

    def metadata(self, index: int) -> Mapping[str, Any]:
        return self._episodes[index]["metadata"]

    def name(self, index: int) -> str:
        return str(index % len(self))

    def _mapped(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        path, num_steps = _array_path(self._folder, name), self._starts[-1]
        num_bytes = num_steps * _num_bytes(dtype, shape)
        if not num_bytes:
            return np.empty((num_steps, *shape), dtype)
        if not path.exists() or path.stat().st_size < num_bytes:
            raise DatasetError(
                f"{path} is missing or shorter than the {num_bytes} bytes that {INDEX} counts",
                hint="copy the folder again, or cut lines off the end of episodes.jsonl until what is left fits",
            )
        return np.asarray(np.memmap(path, dtype, "r", shape=(num_steps, *shape)))


class ArrayStoreWriter:
    """Adds episodes to a store, made in `folder` with the first one if there is none.

    What was appended is there for every store that is opened afterwards, closed or not; after a power failure too.

    >>> with ArrayStoreWriter("demonstrations", fps=5) as writer:
    ...     writer.append(episode)

    Raises:
        DatasetError: the folder's store is damaged, of another `fps`, or being written to by someone else.
    """

    def __init__(self, folder: Path | str, fps: float):
        self._folder, self._fps = Path(folder), fps
        self._folder.mkdir(parents=True, exist_ok=True)
        self._index = open(self._folder / INDEX, "ab")  # noqa: SIM115
        self._files: dict[str, IO[bytes]] = {}
        self._header: _Header | None = None
        try:
            self._lock()
            if (self._folder / HEADER).exists():
                self._go_on()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "ArrayStoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, episode: RecordedEpisode) -> None:
        """Add an episode; when this returns it is on disk.

        Raises:
            DatasetError: its arrays are not of the names, types and shapes of those there.
        """
        arrays = _arrays_of(episode)
        form = {name: (array.dtype.str, array.shape[1:]) for name, array in arrays.items()}
        if self._header is None:
            self._begin(_Header(fps=self._fps, arrays=form))
        elif form != self._header.arrays:
            raise DatasetError(
                f"the episode's arrays do not fit the store: {_difference(form, self._header.arrays)}",
                hint="write episodes of another kind to another folder",
            )
        for name, array in arrays.items():
            self._files[name].write(np.ascontiguousarray(array).data)
            _sync(self._files[name])
        line = {"length": len(episode), "instruction": episode.instruction, "metadata": dict(episode.metadata)}
        self._index.write(json.dumps(line).encode() + b"\n")
        _sync(self._index)

    def close(self) -> None:
        """Close the files; all is written already."""
        for file in (self._index, *self._files.values()):
            file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(
                f"{self._folder} is being written to by another process", hint="wait for it, or use another folder"
            ) from None

    def _begin(self, header: _Header) -> None:
        content = {
            "version": VERSION,
            "fps": header.fps,
            "arrays": {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in header.arrays.items()},
        }
        new = self._folder / f"{HEADER}.new"
        new.write_text(json.dumps(content, indent=2) + "\n")
        new.replace(self._folder / HEADER)
        self._open(header, num_steps=0)

    def _go_on(self) -> None:
        """Cut off what stands behind the last whole episode."""
        header = _read_header(self._folder)
        if header.fps != self._fps:
            raise DatasetError(f"{self._folder} is recorded at {header.fps:g} fps, not at {self._fps:g}")
        # Opened for its checks: an array that is too short would be filled up with zeros.
        ArrayStore(self._folder)
        episodes, num_bytes = _read_index(self._folder / INDEX)
        self._index.truncate(num_bytes)
        self._open(header, num_steps=sum(episode["length"] for episode in episodes))

    def _open(self, header: _Header, num_steps: int) -> None:
        self._header = header
        for name, form in header.arrays.items():
            self._files[name] = file = open(_array_path(self._folder, name), "ab")  # noqa: SIM115
            file.truncate(num_steps * _num_bytes(*form))


def _arrays_of(episode: RecordedEpisode) -> dict[str, np.ndarray]:
    arrays = {f"{IMAGE}{name}": np.asarray(frames) for name, frames in episode.images.items()}
    arrays["actions"] = episode.actions
    optional = {name: getattr(episode, name) for name in ("proprio", "environment_state", "expert_drove")}
    return arrays | {name: array for name, array in optional.items() if array is not None}


def _difference(found: Mapping[str, tuple[Any, ...]], there: Mapping[str, tuple[Any, ...]]) -> str:
    """Say what arrays differ, in words."""

    def said(arrays: Mapping[str, tuple[Any, ...]], name: str) -> str:
        return "none" if name not in arrays else f"{np.dtype(arrays[name][0])} of shape {arrays[name][1]} a timestep"

    names = [name for name in sorted(found.keys() | there.keys()) if found.get(name) != there.get(name)]
    return ", ".join(f"{name} is {said(found, name)}, where it has {said(there, name)}" for name in names)


def _array_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.raw"


def _num_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return int(np.dtype(dtype).itemsize * np.prod(shape, dtype=int))


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _read_header(folder: Path) -> _Header:
    path = folder / HEADER
    if not path.exists():
        raise DatasetError(f"{folder} holds no array store: it has no {HEADER}", hint="ArrayStoreWriter makes one")
    try:
        content = json.loads(path.read_text())
        if content["version"] != VERSION:
            raise DatasetError(f"{path} is of version {content['version']}; this program reads version {VERSION}")
        arrays = {name: (form["dtype"], tuple(form["shape"])) for name, form in content["arrays"].items()}
        return _Header(fps=float(content["fps"]), arrays=arrays)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is damaged ({error!r})", hint="copy the folder again") from error


def _read_index(path: Path) -> tuple[list[Mapping[str, Any]], int]:
    """Return the episodes, and how many bytes of the file they take."""
    if not path.exists():
        raise DatasetError(f"{path} is missing", hint="copy the folder again")
    try:
        return read_rows(path)
    except ValueError as error:
        raise DatasetError(f"{path} is damaged ({error})", hint="copy the folder again") from error

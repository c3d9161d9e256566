"""The training cache: decoded episodes as raw arrays, fast to read at random and safe to interrupt.

    store.json          the arrays: {"version", "fps", "arrays": {name: {"dtype", "shape" of a timestep}}}
    <name>.raw          the timesteps of all episodes: image_<camera>, proprio, actions, expert_drove, ...
    episodes.jsonl      one line per episode: {"length", "instruction", "metadata"}

The line of an episode is written last and completes it; the next writer removes what follows the last line. Arrays are
little-endian and in C order.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.datasets.error_context import error_context
from vla_server_base.datasets.json_lines import read_rows
from vla_server_base.errors import DatasetError

HEADER, INDEX = "store.json", "episodes.jsonl"
VERSION = 1
IMAGE = "image_"
COPY_AGAIN = "copy the folder again"


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """The content of `store.json`: each array's dtype and the shape of one timestep, by name."""

    fps: float
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]


class ArrayStore:
    """Reads a folder that `ArrayStoreWriter` wrote; it has the episodes that were complete when it was opened.

    An episode's arrays are views of memory-mapped files, so `store[i].images["primary"][t]` reads one frame and copies
    nothing. It can be read from several threads.

    Raises:
        DatasetError: the folder has no store, or a damaged one.
    """

    def __init__(self, folder: Path | str):
        self._folder = Path(folder)
        header = read_header(self._folder)
        self._episodes, _ = read_index(self._folder / INDEX)
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
        with error_context(f"episode {self.name(index)} of {self._folder}"):
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
        path, num_steps = array_path(self._folder, name), self._starts[-1]
        num_bytes = num_steps * bytes_per_timestep(dtype, shape)
        if not num_bytes:
            return np.empty((num_steps, *shape), dtype)
        if not path.exists() or path.stat().st_size < num_bytes:
            raise DatasetError(
                f"{path} is missing or shorter than the {num_bytes} bytes of the episodes in {INDEX}",
                hint=f"{COPY_AGAIN}, or remove lines from the end of {INDEX} until the rest fits",
            )
        return np.asarray(np.memmap(path, dtype, "r", shape=(num_steps, *shape)))


def array_path(folder: Path, name: str) -> Path:
    """Return the file of an array."""
    return folder / f"{name}.raw"


def bytes_per_timestep(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the size of one timestep of an array."""
    return int(np.dtype(dtype).itemsize * np.prod(shape, dtype=int))


def read_header(folder: Path) -> StoreHeader:
    """Read `store.json`.

    Raises:
        DatasetError: it is missing, damaged or of another version.
    """
    path = folder / HEADER
    if not path.exists():
        raise DatasetError(f"{folder} is not an array store: it has no {HEADER}", hint="create it: ArrayStoreWriter")
    try:
        content = json.loads(path.read_text())
        if content["version"] != VERSION:
            raise DatasetError(
                f"{path} has version {content['version']}; expected {VERSION}",
                hint="remove the folder; training creates it again",
            )
        arrays = {name: (array["dtype"], tuple(array["shape"])) for name, array in content["arrays"].items()}
        return StoreHeader(fps=float(content["fps"]), arrays=arrays)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is damaged ({error!r})", hint=COPY_AGAIN) from error


def read_index(path: Path) -> tuple[list[Mapping[str, Any]], int]:
    """Return the rows of the complete episodes, and the number of bytes that they take.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    if not path.exists():
        raise DatasetError(f"{path} is missing", hint=COPY_AGAIN)
    try:
        return read_rows(path)
    except ValueError as error:
        raise DatasetError(f"{path} is damaged ({error})", hint=COPY_AGAIN) from error

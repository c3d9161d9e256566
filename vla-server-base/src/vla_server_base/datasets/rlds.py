"""Reads RLDS datasets, as TensorFlow Datasets writes them and Open X-Embodiment has them, without TensorFlow.

A record is an episode: `steps` are features with one value a timestep. `features.json` says of what type and shape each
is; its form is that of feature.proto of tensorflow/datasets. Numbers are kept as float32 and int64.
"""

import json
import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_server_base.datasets.episode import RecordedEpisode, said_of
from vla_server_base.datasets.keys import Keys, choose, chosen_keys, named_cameras
from vla_server_base.datasets.pictures import decoded_picture, stacked
from vla_server_base.datasets.tfrecord import find_records, read_example
from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

FEATURES, INFO = "features.json", "dataset_info.json"
STEPS = "steps/"
KNOWN_ACTIONS = (("action",), ("actions",))
KNOWN_STATES = (
    ("observation/state",),
    ("observation/proprio",),
    ("observation/cartesian_position", "observation/gripper_position"),
)
KNOWN_INSTRUCTIONS = (
    ("language_instruction",),
    ("observation/natural_language_instruction",),
    ("natural_language_instruction",),
)
COPY_AGAIN = "copy the dataset again"

Values = np.ndarray | list[bytes]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """What `features.json` says of one value a timestep: `kind` is `tensor`, `image`, `text` or something not read."""

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    encoding: str = "none"

    @property
    def is_camera(self) -> bool:
        return self.kind == "image" and (not self.shape or self.shape[-1] != 1) and self.dtype in ("", "uint8")

    @property
    def is_text(self) -> bool:
        return self.kind == "text" or self.dtype == "string"

    @property
    def is_numbers(self) -> bool:
        return self.kind == "tensor" and not self.is_text and all(self.shape)


class RldsDataset:
    """A folder with `features.json` and TFRecord files, or one with a single such folder in it.

    `fps` is needed: the data do not say it.

    Raises:
        DatasetError: there is no such dataset, it is of another form, damaged, or lacks what `keys` name.
    """

    def __init__(self, folder: Path | str, keys: Keys, fps: float | None, split: str = "train"):
        self._folder = folder_of(Path(folder))
        if fps is None:
            raise DatasetError(f"{self._folder} does not say its rate", hint="say it: --fps 5, the timesteps a second")
        self._fps = fps
        self._features = _read_features(self._folder / FEATURES)
        where = str(self._folder)
        numbers = [name for name, feature in self._features.items() if feature.is_numbers]
        texts = [name for name, feature in self._features.items() if feature.is_text]
        self._actions = chosen_keys("--action-key", keys.action, KNOWN_ACTIONS, numbers, where)
        if not self._actions:
            raise DatasetError(f"{where} has no 'action' that is an array", hint=choose("--action-key", numbers))
        self._states = chosen_keys("--state-key", keys.state, KNOWN_STATES, numbers, where)
        asked = (keys.instruction,) if keys.instruction else ()
        self._instruction = chosen_keys("--instruction-key", asked, KNOWN_INSTRUCTIONS, texts, where)
        self.cameras = named_cameras(keys.cameras, self._pictures(), where)
        self._records = _records(self._folder, split)

    def _pictures(self) -> list[str]:
        deep = [name for name, feature in self._features.items() if feature.kind == "image" and not feature.is_camera]
        for name in deep:
            logger.warning("%s: %s is depth, which is not read; it is left out", self._folder, name)
        return [name for name, feature in self._features.items() if feature.is_camera]

    @property
    def fps(self) -> float:
        return self._fps

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> RecordedEpisode:
        with said_of(f"episode {self.name(index)} of {self._folder}"):
            example = read_example(self._records[index])
            texts = [self._values(example, key)[0] for key in self._instruction]
            return RecordedEpisode.of(
                images={name: self._decoded(example, key) for name, key in self.cameras.items()},
                proprio=self._numbers(example, self._states) if self._states else None,
                actions=self._numbers(example, self._actions),
                instruction=texts[0] if texts else "",
                metadata=self.metadata(index),
            )

    def metadata(self, index: int) -> Mapping[str, Any]:
        return {"episode": self.name(index)}

    def name(self, index: int) -> str:
        return str(index % len(self))

    def _values(self, example: Mapping[str, Values], key: str) -> Values:
        values = example.get(STEPS + key)
        if values is None or not len(values):
            raise DatasetError(f"it has no {STEPS}{key}", hint="leave the episode out: --without")
        return values

    def _numbers(self, example: Mapping[str, Values], keys: tuple[str, ...]) -> np.ndarray:
        columns = []
        for key in keys:
            values, feature = self._values(example, key), self._features[key]
            if isinstance(values, list):
                values = np.concatenate([_packed(value, feature, key) for value in values])
            size = int(np.prod(feature.shape))
            if values.size % size:
                raise DatasetError(f"{key} has {values.size} numbers, which are no rows of {size}", hint=COPY_AGAIN)
            columns.append(values.reshape(-1, size))
        if len(lengths := {len(column) for column in columns}) > 1:
            raise DatasetError(f"{' and '.join(keys)} are of different lengths: {sorted(lengths)}", hint=COPY_AGAIN)
        return np.concatenate(columns, axis=1)

    def _decoded(self, example: Mapping[str, Values], key: str) -> np.ndarray:
        pictures = []
        for timestep, content in enumerate(self._values(example, key)):
            with said_of(f"{key} at timestep {timestep}"):
                pictures.append(decoded_picture(content))
        with said_of(key):
            return stacked(pictures)


def folder_of(folder: Path) -> Path:
    """Return the folder that holds `features.json`: this one, or the only one that does below it.

    Raises:
        DatasetError: there is none, or there are several.
    """
    found = [folder] if (folder / FEATURES).is_file() else sorted(path.parent for path in _below(folder))
    if len(found) == 1:
        return found[0]
    if not found:
        raise DatasetError(f"{folder} holds no RLDS dataset: it has no {FEATURES}", hint="name the folder that has")
    listed = ", ".join(str(path.relative_to(folder)) for path in found)
    raise DatasetError(f"{folder} holds several datasets", hint=f"name one of them: {listed}")


def _below(folder: Path) -> list[Path]:
    return [*folder.glob(f"*/{FEATURES}"), *folder.glob(f"*/*/{FEATURES}")]


def is_rlds(folder: Path) -> bool:
    """Say whether a folder, or one in it, has what TensorFlow Datasets writes."""
    return (folder / FEATURES).is_file() or bool(_below(folder))


def _read_features(path: Path) -> dict[str, Feature]:
    try:
        features = json.loads(path.read_text())["featuresDict"]["features"]
        steps = features["steps"]["sequence"]["feature"]["featuresDict"]["features"]
        return dict(_flattened(steps, ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} describes no RLDS dataset: steps with features by name ({error!r})",
            hint="RLDS datasets have one sequence 'steps' an episode; name such a folder",
        ) from error


def _flattened(features: Mapping[str, Any], prefix: str) -> list[tuple[str, Feature]]:
    found = []
    for name, said in features.items():
        if "featuresDict" in said:
            found += _flattened(said["featuresDict"]["features"], f"{prefix}{name}/")
            continue
        kind = next((kind for kind in ("tensor", "image", "text") if kind in said), "other")
        of = said.get(kind) or {}
        dimensions = (of.get("shape") or {}).get("dimensions") or ()
        # Of a side that may differ the size is -1, or 0.
        shape = tuple(max(int(size), 0) for size in dimensions)
        feature = Feature(kind=kind, shape=shape, dtype=of.get("dtype", ""), encoding=of.get("encoding") or "none")
        found.append((f"{prefix}{name}", feature))
    return found


def _packed(value: bytes, feature: Feature, key: str) -> np.ndarray:
    """Return a tensor that was stored as bytes."""
    try:
        content = zlib.decompress(value) if feature.encoding == "zlib" else value
        return np.frombuffer(content, np.dtype(feature.dtype)).reshape(-1)
    except (zlib.error, TypeError, ValueError) as error:
        raise DatasetError(f"{key} cannot be read ({error})", hint="name other keys") from error


def _records(folder: Path, split: str) -> list[Any]:
    said = _read_split(folder / INFO, split)
    shards = sorted(folder.glob(f"*-{split}.tfrecord-*-of-*"))
    if not shards:
        others = {match[1] for path in folder.glob("*") if (match := re.match(r".*-(\w+)\.\w+-\d+-of-\d+$", path.name))}
        raise DatasetError(
            f"{folder} has no TFRecord files of the split '{split}'",
            hint=f"--split names one; there are: {', '.join(sorted(others)) or 'none'}",
        )
    number = int(shards[0].name.rpartition("-of-")[2])
    if len(shards) != number:
        raise DatasetError(f"{folder} has {len(shards)} of the {number} files of '{split}'", hint=COPY_AGAIN)
    found = [find_records(shard) for shard in shards]
    for shard, records, expected in zip(shards, found, said or map(len, found), strict=True):
        if len(records) != expected:
            raise DatasetError(f"{shard} has {len(records)} episodes, where {INFO} says {expected}", hint=COPY_AGAIN)
    return [record for records in found for record in records]


def _read_split(path: Path, split: str) -> list[int] | None:
    """Return how many episodes each file of a split has; None where nothing says it."""
    if not path.exists():
        return None
    try:
        said = json.loads(path.read_text())
        lengths = {
            of["name"]: [int(length) for length in of.get("shardLengths") or ()] for of in said.get("splits", ())
        }
        form = said.get("fileFormat") or "tfrecord"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is damaged ({error!r})", hint=COPY_AGAIN) from error
    if form != "tfrecord":
        raise DatasetError(
            f"{path.parent} is stored as {form}; read here is tfrecord", hint="write it anew as tfrecord"
        )
    return lengths.get(split) or None

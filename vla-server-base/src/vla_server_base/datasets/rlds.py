"""Reads RLDS datasets, which TensorFlow Datasets writes and Open X-Embodiment uses, without TensorFlow.

A record is an episode: its `steps` are features with one value per timestep. Numbers are stored as float32 and int64.
"""

import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.datasets.error_context import error_context
from vla_server_base.datasets.images import decode_images
from vla_server_base.datasets.keys import Keys, choose, chosen_keys, named_cameras
from vla_server_base.datasets.rlds_features import FEATURES, RldsFeature, read_features
from vla_server_base.datasets.rlds_files import COPY_AGAIN, dataset_folder, split_records
from vla_server_base.datasets.tfrecord import read_example
from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

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

Values = np.ndarray | list[bytes]


class RldsDataset:
    """A folder with `features.json` and TFRecord files, or a folder with one such folder in it.

    The files do not state their rate, so `fps` is required.

    Raises:
        DatasetError: the folder has no such dataset, it is damaged or in another format, or lacks a key of `keys`.
    """

    def __init__(self, folder: Path | str, keys: Keys, fps: float | None, split: str = "train"):
        self._folder = dataset_folder(Path(folder))
        if fps is None:
            raise DatasetError(
                f"{self._folder} does not state its rate", hint="give the timesteps per second, such as --fps 5"
            )
        self._fps = fps
        self._features = read_features(self._folder / FEATURES)
        source = str(self._folder)
        numbers = [name for name, feature in self._features.items() if feature.is_numbers]
        texts = [name for name, feature in self._features.items() if feature.is_text]
        self._actions = chosen_keys("--action-key", keys.action, KNOWN_ACTIONS, numbers, source)
        if not self._actions:
            raise DatasetError(f"{source} has no array 'action'", hint=choose("--action-key", numbers))
        self._states = chosen_keys("--state-key", keys.state, KNOWN_STATES, numbers, source)
        chosen = (keys.instruction,) if keys.instruction else ()
        self._instruction = chosen_keys("--instruction-key", chosen, KNOWN_INSTRUCTIONS, texts, source)
        self.cameras = named_cameras(keys.cameras, self._image_keys(), source)
        self._records = split_records(self._folder, split)

    def _image_keys(self) -> list[str]:
        depth = [name for name, feature in self._features.items() if feature.kind == "image" and not feature.is_camera]
        for name in depth:
            logger.warning("%s: skipped %s, which is depth", self._folder, name)
        return [name for name, feature in self._features.items() if feature.is_camera]

    @property
    def fps(self) -> float:
        return self._fps

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> RecordedEpisode:
        with error_context(f"episode {self.name(index)} of {self._folder}"):
            example = read_example(self._records[index])
            texts = [self._values(example, key)[0] for key in self._instruction]
            return RecordedEpisode.of(
                images={name: decode_images(self._values(example, key), key) for name, key in self.cameras.items()},
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
            raise DatasetError(f"it has no {STEPS}{key}", hint="drop the episode: --without")
        return values

    def _numbers(self, example: Mapping[str, Values], keys: tuple[str, ...]) -> np.ndarray:
        columns = []
        for key in keys:
            values, feature = self._values(example, key), self._features[key]
            if isinstance(values, list):
                values = np.concatenate([_packed(value, feature, key) for value in values])
            size = int(np.prod(feature.shape))
            if values.size % size:
                raise DatasetError(f"{key}: expected a multiple of {size} numbers, got {values.size}", hint=COPY_AGAIN)
            columns.append(values.reshape(-1, size))
        if len(lengths := {len(column) for column in columns}) > 1:
            raise DatasetError(f"{' and '.join(keys)} have different lengths: {sorted(lengths)}", hint=COPY_AGAIN)
        return np.concatenate(columns, axis=1)


def _packed(value: bytes, feature: RldsFeature, key: str) -> np.ndarray:
    """Return the numbers of a tensor that is stored as bytes."""
    try:
        content = zlib.decompress(value) if feature.encoding == "zlib" else value
        return np.frombuffer(content, np.dtype(feature.dtype)).reshape(-1)
    except (zlib.error, TypeError, ValueError) as error:
        raise DatasetError(f"{key} cannot be read ({error})", hint="choose other keys") from error

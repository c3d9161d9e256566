"""Reads HDF5 recordings: robomimic's, with one group per episode, and ALOHA's, with one file per episode.

An episode is a group with actions, one row per timestep. Images and proprio are below it, in `obs` or `observations`.
Images are arrays, or image files (JPEG), which may be padded to one length.
"""

import json
import logging
import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.datasets.error_context import error_context
from vla_server_base.datasets.hdf5_layout import (
    COPY_AGAIN,
    KNOWN_ACTIONS,
    array_named,
    arrays_below,
    episode_groups,
    group_named,
    is_images,
    open_file,
    recording_files,
)
from vla_server_base.datasets.images import decode_images
from vla_server_base.datasets.keys import Keys, chosen_keys, named_cameras
from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

KNOWN_STATES = (
    ("obs/robot0_eef_pos", "obs/robot0_eef_quat", "obs/robot0_gripper_qpos"),
    ("obs/ee_states", "obs/gripper_states"),
    ("observations/qpos",),
    ("obs/state",),
    ("observations/state",),
)
INSTRUCTIONS = ("language_instruction", "instruction")
"""Datasets or attributes of an episode with its instruction."""
OBSERVED = re.compile(r"(?:obs|observations)/")


class Hdf5Dataset:
    """A file, or a folder of files, with recorded episodes.

    `fps` is by default the `control_freq` of the environment that robomimic's files describe.

    Raises:
        DatasetError: there is no episode, a file is damaged, or lacks a key of `keys`.
    """

    def __init__(self, source: Path | str, keys: Keys, fps: float | None):
        self._source, self._keys = Path(source), keys
        paths = recording_files(self._source)
        self._groups = [group for path in paths for group in episode_groups(path, keys, is_alone=len(paths) == 1)]
        if not self._groups:
            raise DatasetError(f"{source} has no episode with a timestep", hint="name other files")
        first = self._groups[0]
        with closing(open_file(first.path)) as file:
            rate = fps or _rate(file)
            self._choose_keys(group_named(file, first.group), f"{first.path}, {first.name}")
        if rate is None:
            raise DatasetError(f"{source} does not state its rate", hint="give it, such as ALOHA's: --fps 50")
        self._fps = rate

    def _choose_keys(self, episode: h5py.Group, source: str) -> None:
        arrays = arrays_below(episode)
        images = [key for key, array in arrays.items() if OBSERVED.match(key) and is_images(key, array)]
        for key in [key for key in images if "depth" in key.lower()]:
            logger.warning("%s: skipped %s, which is depth", self._source, key)
            images.remove(key)
        self.cameras = named_cameras(self._keys.cameras, images, source)
        numbers = [key for key in arrays if key not in images]
        self._actions = chosen_keys("--action-key", self._keys.action, KNOWN_ACTIONS, numbers, source)
        self._states = chosen_keys("--state-key", self._keys.state, KNOWN_STATES, numbers, source)

    @property
    def fps(self) -> float:
        return self._fps

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> RecordedEpisode:
        path, group_name, name = self._groups[index]
        with error_context(f"episode {name} of {self._source}"), closing(open_file(path)) as file:
            group = group_named(file, group_name)
            try:
                return RecordedEpisode.of(
                    images={camera: _images(array_named(group, key), key) for camera, key in self.cameras.items()},
                    proprio=_numbers(group, self._states) if self._states else None,
                    actions=_numbers(group, self._actions),
                    instruction=self._text(file, group),
                    metadata=self.metadata(index),
                )
            except (OSError, KeyError, TypeError, ValueError) as error:
                raise DatasetError(f"{path} is damaged ({error})", hint=COPY_AGAIN) from error

    def metadata(self, index: int) -> Mapping[str, Any]:
        return {"episode": self.name(index)}

    def name(self, index: int) -> str:
        return self._groups[index].name

    def _text(self, file: h5py.File, group: h5py.Group) -> Any:
        chosen = self._keys.instruction
        for name in INSTRUCTIONS if chosen is None else (chosen,):
            if name in group.attrs:
                return _first(group.attrs[name])
            if isinstance(text := group.get(name), h5py.Dataset):
                return _first(text[()])
        if chosen is not None:
            raise DatasetError(f"it has no '{chosen}'", hint="choose a text or an attribute with --instruction-key")
        return _libero_instruction(file)


def _images(array: h5py.Dataset, key: str) -> np.ndarray:
    return array[()] if array.ndim == 4 else decode_images(array[()], key, _image_file)


def _image_file(content: Any) -> bytes:
    return content if isinstance(content, bytes) else np.asarray(content).tobytes()


def _numbers(group: h5py.Group, keys: tuple[str, ...]) -> np.ndarray:
    columns = [array_named(group, key)[()] for key in keys]
    if len(lengths := {len(column) for column in columns}) > 1:
        raise DatasetError(f"{' and '.join(keys)} have different lengths: {sorted(lengths)}", hint=COPY_AGAIN)
    return columns[0] if len(columns) == 1 else np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1)


def _first(text: Any) -> Any:
    """Return a text, or the first one if there is one per timestep."""
    return text[0] if isinstance(text, np.ndarray) and text.ndim and len(text) else text


def _rate(file: h5py.File) -> float | None:
    arguments = _json_attribute(file, "env_args").get("env_kwargs")
    rate = arguments.get("control_freq") if isinstance(arguments, Mapping) else None
    return float(rate) if isinstance(rate, int | float) else None


def _libero_instruction(file: h5py.File) -> str:
    instruction = _json_attribute(file, "problem_info").get("language_instruction")
    return "".join(instruction) if isinstance(instruction, str | list) else ""


def _json_attribute(file: h5py.File, name: str) -> Mapping[str, Any]:
    group = file.get("data")
    text = group.attrs.get(name, "{}") if isinstance(group, h5py.Group) else "{}"
    try:
        content = json.loads(text if isinstance(text, bytes) else str(text))
    except ValueError:
        return {}
    return content if isinstance(content, Mapping) else {}

"""Reads HDF5 recordings: robomimic's, a group an episode in one file, and ALOHA's, a file an episode.

An episode is a group that has the actions, a row a timestep; pictures and the robot's own numbers lie below it, in
`obs` or `observations`. Pictures are arrays, or files' bytes (JPEG), padded to one length or not.
"""

import json
import logging
import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from vla_server_base.datasets.episode import RecordedEpisode, said_of
from vla_server_base.datasets.keys import Keys, choose, chosen_keys, named_cameras
from vla_server_base.datasets.pictures import decoded_picture, stacked
from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

SUFFIXES = (".hdf5", ".h5", ".hdf")
KNOWN_ACTIONS = (("actions",), ("action",))
KNOWN_STATES = (
    ("obs/robot0_eef_pos", "obs/robot0_eef_quat", "obs/robot0_gripper_qpos"),
    ("obs/ee_states", "obs/gripper_states"),
    ("observations/qpos",),
    ("obs/state",),
    ("observations/state",),
)
INSTRUCTIONS = ("language_instruction", "instruction")
"""Datasets or attributes of an episode that say what was done."""
SEEN = re.compile(r"(?:obs|observations)/")
COPY_AGAIN = "copy the file again"


class _Place(NamedTuple):
    path: Path
    group: str
    name: str


class Hdf5Dataset:
    """A file, or a folder of files, with recorded episodes.

    `fps` is what robomimic's files say of their environment (control_freq), where nothing else is given.

    Raises:
        DatasetError: there is no episode, a file is damaged, or lacks what `keys` name.
    """

    def __init__(self, source: Path | str, keys: Keys, fps: float | None):
        self._source, self._keys = Path(source), keys
        paths = files_of(self._source)
        self._places = [place for path in paths for place in _episodes(path, keys, is_alone=len(paths) == 1)]
        if not self._places:
            raise DatasetError(f"{source} holds no episode with a timestep", hint="name other files")
        first = self._places[0]
        with closing(_opened(first.path)) as file:
            rate = fps or _rate(file)
            self._choose(_group(file, first.group), f"{first.path}, {first.name}")
        if rate is None:
            raise DatasetError(f"{source} does not say its rate", hint="say it, such as ALOHA's: --fps 50")
        self._fps = rate

    def _choose(self, episode: h5py.Group, where: str) -> None:
        arrays = _arrays(episode)
        pictures = [key for key, array in arrays.items() if SEEN.match(key) and _is_pictures(key, array)]
        for key in [key for key in pictures if "depth" in key.lower()]:
            logger.warning("%s: %s is depth, which is not read; it is left out", self._source, key)
            pictures.remove(key)
        self.cameras = named_cameras(self._keys.cameras, pictures, where)
        numbers = [key for key in arrays if key not in pictures]
        self._actions = chosen_keys("--action-key", self._keys.action, KNOWN_ACTIONS, numbers, where)
        self._states = chosen_keys("--state-key", self._keys.state, KNOWN_STATES, numbers, where)

    @property
    def fps(self) -> float:
        return self._fps

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> RecordedEpisode:
        place = self._places[index]
        with said_of(f"episode {place.name} of {self._source}"), closing(_opened(place.path)) as file:
            group = _group(file, place.group)
            try:
                return RecordedEpisode.of(
                    images={name: _pictures(_array(group, key), key) for name, key in self.cameras.items()},
                    proprio=_numbers(group, self._states) if self._states else None,
                    actions=_numbers(group, self._actions),
                    instruction=self._text(file, group),
                    metadata=self.metadata(index),
                )
            except (OSError, KeyError, TypeError, ValueError) as error:
                raise DatasetError(f"{place.path} is damaged ({error})", hint=COPY_AGAIN) from error

    def metadata(self, index: int) -> Mapping[str, Any]:
        return {"episode": self.name(index)}

    def name(self, index: int) -> str:
        return self._places[index].name

    def _text(self, file: h5py.File, group: h5py.Group) -> Any:
        asked = self._keys.instruction
        for name in INSTRUCTIONS if asked is None else (asked,):
            if name in group.attrs:
                return _first(group.attrs[name])
            if isinstance(text := group.get(name), h5py.Dataset):
                return _first(text[()])
        if asked is not None:
            raise DatasetError(f"it has no '{asked}'", hint="--instruction-key names a text, or an attribute")
        return _said_by_libero(file)


def files_of(source: Path) -> list[Path]:
    """Return the file that is named, or those of a folder, in the order of the numbers in their names."""
    if source.is_file():
        return [source]
    found = [path for path in source.glob("*") if path.suffix in SUFFIXES and not path.name.startswith(".")]
    return sorted(found, key=lambda path: _in_order(path.name))


def _in_order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} is no HDF5 file, or damaged ({error})", hint=COPY_AGAIN) from error


def _episodes(path: Path, keys: Keys, *, is_alone: bool) -> list[_Place]:
    """Return where the episodes of a file are: its root, or groups one or two levels below it."""
    actions = keys.action or tuple(key for (key,) in KNOWN_ACTIONS)
    with closing(_opened(path)) as file:
        groups = [file] if _has(file, actions) else [group for group in _below(file) if _has(group, actions)]
        if not groups:
            there = {key for group in (file, *_below(file)[:1]) for key in _arrays(group)}
            raise DatasetError(f"{path} has no episode with {' or '.join(actions)}", hint=choose("--action-key", there))
        places = []
        for group in groups:
            own = str(group.name).rpartition("/")[2]
            name = own if is_alone and own else path.name if not own else f"{path.name}:{own}"
            if len(_array(group, next(key for key in actions if key in group))):
                places.append(_Place(path, str(group.name), name))
            else:
                logger.warning("%s: %s has no timestep and is left out", path, name)
    return sorted(places, key=lambda place: _in_order(place.group))


def _has(group: h5py.Group, actions: tuple[str, ...]) -> bool:
    return any(isinstance(group.get(key), h5py.Dataset) for key in actions)


def _below(file: h5py.File) -> list[h5py.Group]:
    groups = [group for group in file.values() if isinstance(group, h5py.Group)]
    return groups + [inner for group in groups for inner in group.values() if isinstance(inner, h5py.Group)]


def _arrays(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the arrays below a group by their paths from there."""
    found: dict[str, h5py.Dataset] = {}
    group.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return {name: array for name, array in found.items() if array.shape}


def _group(file: h5py.File, name: str) -> h5py.Group:
    found = file[name]
    assert isinstance(found, h5py.Group), "episodes are groups"
    return found


def _array(group: h5py.Group, key: str) -> h5py.Dataset:
    if not isinstance(array := group.get(key), h5py.Dataset):
        raise DatasetError(f"it has no '{key}'", hint="leave the episode out: --without")
    return array


def _is_pictures(key: str, array: h5py.Dataset) -> bool:
    """Say whether an array is pictures, or their files' bytes."""
    is_named_so = any(word in key.lower() for word in ("image", "rgb", "cam"))
    return array.ndim == 4 or (is_named_so and (_is_bytes(array) or (array.ndim == 2 and array.dtype == np.uint8)))


def _is_bytes(array: h5py.Dataset) -> bool:
    return array.ndim == 1 and array.dtype.kind in "OSV"


def _pictures(array: h5py.Dataset, key: str) -> np.ndarray:
    if array.ndim == 4:
        return array[()]
    pictures = []
    for timestep, content in enumerate(array[()]):
        with said_of(f"{key} at timestep {timestep}"):
            pictures.append(decoded_picture(content if isinstance(content, bytes) else np.asarray(content).tobytes()))
    with said_of(key):
        return stacked(pictures)


def _numbers(group: h5py.Group, keys: tuple[str, ...]) -> np.ndarray:
    columns = [_array(group, key)[()] for key in keys]
    if len(lengths := {len(column) for column in columns}) > 1:
        raise DatasetError(f"{' and '.join(keys)} are of different lengths: {sorted(lengths)}", hint=COPY_AGAIN)
    return columns[0] if len(columns) == 1 else np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1)


def _first(text: Any) -> Any:
    """Return a text, of which there may be one a timestep."""
    return text[0] if isinstance(text, np.ndarray) and text.ndim and len(text) else text


def _rate(file: h5py.File) -> float | None:
    arguments = _json_attribute(file, "env_args").get("env_kwargs")
    rate = arguments.get("control_freq") if isinstance(arguments, Mapping) else None
    return float(rate) if isinstance(rate, int | float) else None


def _said_by_libero(file: h5py.File) -> str:
    said = _json_attribute(file, "problem_info").get("language_instruction")
    return said if isinstance(said, str) else "".join(said) if isinstance(said, list) else ""


def _json_attribute(file: h5py.File, name: str) -> Mapping[str, Any]:
    group = file.get("data")
    text = group.attrs.get(name, "{}") if isinstance(group, h5py.Group) else "{}"
    try:
        said = json.loads(text if isinstance(text, bytes) else str(text))
    except ValueError:
        return {}
    return said if isinstance(said, Mapping) else {}

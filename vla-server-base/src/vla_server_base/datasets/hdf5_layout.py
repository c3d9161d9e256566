"""Where the episodes of HDF5 recordings are: files, groups and arrays."""

import logging
import re
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from vla_server_base.datasets.keys import Keys, choose
from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

SUFFIXES = (".hdf5", ".h5", ".hdf")
KNOWN_ACTIONS = (("actions",), ("action",))
COPY_AGAIN = "copy the file again"


class EpisodeGroup(NamedTuple):
    """Where an episode is: a group of a file, and the episode's name."""

    path: Path
    group: str
    name: str


def recording_files(source: Path) -> list[Path]:
    """Return the named file, or the files of a folder, ordered by the numbers in their names."""
    if source.is_file():
        return [source]
    files = [path for path in source.glob("*") if path.suffix in SUFFIXES and not path.name.startswith(".")]
    return sorted(files, key=lambda path: _natural_order(path.name))


def open_file(path: Path) -> h5py.File:
    """Open a file to read.

    Raises:
        DatasetError: it is not HDF5, or damaged.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} is damaged or not an HDF5 file ({error})", hint=COPY_AGAIN) from error


def episode_groups(path: Path, keys: Keys, *, is_alone: bool) -> list[EpisodeGroup]:
    """Return the episodes of a file: its root, or groups one or two levels below it.

    Raises:
        DatasetError: no group has actions.
    """
    actions = keys.action or tuple(key for (key,) in KNOWN_ACTIONS)
    with closing(open_file(path)) as file:
        groups = [file] if _has(file, actions) else [group for group in _groups_below(file) if _has(group, actions)]
        if not groups:
            keys_in_file = {key for group in (file, *_groups_below(file)[:1]) for key in arrays_below(group)}
            raise DatasetError(
                f"{path} has no episode with {' or '.join(actions)}", hint=choose("--action-key", keys_in_file)
            )
        episodes = []
        for group in groups:
            episode = EpisodeGroup(path, str(group.name), _episode_name(path, group, is_alone))
            if len(array_named(group, next(key for key in actions if key in group))):
                episodes.append(episode)
            else:
                logger.warning("%s: skipped %s, which has no timestep", path, episode.name)
    return sorted(episodes, key=lambda episode: _natural_order(episode.group))


def arrays_below(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the arrays below a group by their paths from there."""
    items: dict[str, h5py.Dataset] = {}
    group.visititems(lambda name, item: items.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return {name: array for name, array in items.items() if array.shape}


def group_named(file: h5py.File, name: str) -> h5py.Group:
    """Return the group of an episode."""
    group = file[name]
    assert isinstance(group, h5py.Group), "episodes are groups"
    return group


def array_named(group: h5py.Group, key: str) -> h5py.Dataset:
    """Return an array of an episode.

    Raises:
        DatasetError: the episode lacks it.
    """
    if not isinstance(array := group.get(key), h5py.Dataset):
        raise DatasetError(f"it has no '{key}'", hint="drop the episode: --without")
    return array


def is_images(key: str, array: h5py.Dataset) -> bool:
    """Say whether an array holds images, or the bytes of image files."""
    has_camera_name = any(word in key.lower() for word in ("image", "rgb", "cam"))
    return array.ndim == 4 or (has_camera_name and (_is_bytes(array) or (array.ndim == 2 and array.dtype == np.uint8)))


def _episode_name(path: Path, group: h5py.Group, is_alone: bool) -> str:
    last = str(group.name).rpartition("/")[2]
    if not last:
        return path.name
    return last if is_alone else f"{path.name}:{last}"


def _natural_order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _has(group: h5py.Group, actions: tuple[str, ...]) -> bool:
    return any(isinstance(group.get(key), h5py.Dataset) for key in actions)


def _groups_below(file: h5py.File) -> list[h5py.Group]:
    groups = [group for group in file.values() if isinstance(group, h5py.Group)]
    return groups + [inner for group in groups for inner in group.values() if isinstance(inner, h5py.Group)]


def _is_bytes(array: h5py.Dataset) -> bool:
    return array.ndim == 1 and array.dtype.kind in "OSV"

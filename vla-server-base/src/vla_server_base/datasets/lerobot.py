"""Reads datasets in LeRobot's form, version 3.0, and 2.0 and 2.1: parquet, and video or PNG.

Follows src/lerobot/datasets of huggingface/lerobot (`dataset_metadata.py`, `dataset_reader.py`).
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64, UInt8

from vla_server_base.datasets.episode import RecordedEpisode, said_of
from vla_server_base.datasets.keys import Keys, camera_name, choose, chosen_keys
from vla_server_base.datasets.lerobot_meta import (
    COPY_AGAIN,
    EpisodeFiles,
    episode_files,
    legacy_episode_files,
    read_info,
    read_tasks,
)
from vla_server_base.datasets.pictures import decoded_picture, stacked
from vla_server_base.datasets.video import read_frames
from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

STATE, ACTION = "observation.state", "action"
ENVIRONMENT_STATE = "observation.environment_state"
EXPERT_DROVE = "expert_drove"
KNOWN_ACTIONS, KNOWN_STATES = ((ACTION,), ("actions",)), ((STATE,), ("state",))
"""LeRobot's own, and those of openpi's conversion scripts."""


class LeRobotDataset:
    """A local folder in LeRobot's form.

    The camera of the feature `observation.images.<name>` is called name; `observation.state` is the proprio, and
    `observation.environment_state` what it is called here, too; `keys` may say otherwise. Of an episode with several
    tasks, the instruction is that of the first timestep. Other features are not read, and no depth.

    Raises:
        DatasetError: there is no such dataset in the folder, it is damaged, or of a version not read here.
    """

    def __init__(self, folder: Path | str, keys: Keys = Keys()):  # noqa: B008 (frozen)
        self._folder = Path(folder)
        info = read_info(self._folder)
        self._fps, self._features = float(info["fps"]), info["features"]
        self._cameras = self._chosen_cameras(keys)
        numbers = [key for key, feature in self._features.items() if not _is_camera(feature)]
        where = str(self._folder)
        self._actions = chosen_keys("--action-key", keys.action, KNOWN_ACTIONS, numbers, where)
        self._states = chosen_keys("--state-key", keys.state, KNOWN_STATES, numbers, where)
        if not self._actions:
            raise DatasetError(f"{where} has no feature '{ACTION}'", hint=choose("--action-key", numbers))
        if keys.instruction:
            raise DatasetError("--instruction-key: LeRobot's instructions are its tasks", hint="leave the option out")
        self._tasks = read_tasks(self._folder)
        self._episodes = self._listed(info)

    def _chosen_cameras(self, keys: Keys) -> dict[str, str]:
        """Return the features of cameras by the cameras' names."""
        cameras = [key for key, feature in self._features.items() if _is_camera(feature)]
        for key in cameras:
            if _is_depth(key, self._features[key]):
                logger.warning("%s: %s is depth, which is not read; it is left out", self._folder, key)
        pictures = [key for key in cameras if not _is_depth(key, self._features[key])]
        by_name = {camera_name(key): key for key in pictures}
        if not keys.cameras:
            return by_name
        for name, key in keys.cameras.items():
            if key not in by_name and key not in pictures:
                raise DatasetError(f"{self._folder} has no camera '{key}'", hint=choose(f"--camera {name}=", pictures))
        return {name: by_name.get(key, key) for name, key in keys.cameras.items()}

    def _listed(self, info: Mapping[str, Any]) -> list[EpisodeFiles]:
        version = str(info["codebase_version"])
        videos = [key for key in self._cameras.values() if self._features[key]["dtype"] == "video"]
        if version.removeprefix("v").startswith("3."):
            return episode_files(self._folder, info, videos)
        if version.removeprefix("v").startswith("2."):
            return legacy_episode_files(self._folder, info, videos)
        raise DatasetError(
            f"{self._folder} is of LeRobot's version {version}; read here are 3.0, 2.1 and 2.0",
            hint="LeRobot's own scripts convert older versions",
        )

    @property
    def fps(self) -> float:
        return self._fps

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> RecordedEpisode:
        files = self._episodes[index]
        with said_of(f"episode {files.number} of {self._folder}"):
            rows = self._rows(files)
            times = self._times(rows, files)
            drove = rows[EXPERT_DROVE].to_numpy() if EXPERT_DROVE in rows.column_names else None
            in_simulation = ENVIRONMENT_STATE in rows.column_names and ENVIRONMENT_STATE not in self._states
            return RecordedEpisode.of(
                images={name: self._frames(key, files, rows, times) for name, key in self._cameras.items()},
                proprio=_vectors(rows, self._states, files.data) if self._states else None,
                environment_state=_vectors(rows, (ENVIRONMENT_STATE,), files.data) if in_simulation else None,
                actions=_vectors(rows, self._actions, files.data),
                instruction=self._instruction(rows, files),
                expert_drove=drove,
                metadata=files.metadata,
            )

    def metadata(self, index: int) -> Mapping[str, Any]:
        return self._episodes[index].metadata

    def name(self, index: int) -> str:
        return str(self._episodes[index].number)

    def _rows(self, files: EpisodeFiles) -> pa.Table:
        needed = [*self._actions, *self._states]
        needed += [key for key in self._cameras.values() if self._features[key]["dtype"] == "image"]
        optional = (ENVIRONMENT_STATE, EXPERT_DROVE, "timestamp", "task_index")
        try:
            there = pq.read_schema(files.data).names
            if absent := [key for key in needed if key not in there]:
                raise DatasetError(f"{files.data} has no column '{absent[0]}'", hint=COPY_AGAIN)
            columns = list(dict.fromkeys([*needed, *(key for key in optional if key in there)]))
            which = None if files.has_own_file else [("episode_index", "=", files.number)]
            rows = pq.read_table(files.data, columns=columns, filters=which)
        except FileNotFoundError as error:
            raise DatasetError(f"{files.data} is missing", hint=COPY_AGAIN) from error
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{files.data} is damaged or incomplete ({error})", hint=COPY_AGAIN) from error
        if not len(rows):
            raise DatasetError(f"{files.data} has no row of it", hint=COPY_AGAIN)
        return rows

    def _times(self, rows: pa.Table, files: EpisodeFiles) -> Float64[np.ndarray, " length"]:
        """Return when each row was recorded [s]; evenly, where that is not said."""
        if "timestamp" not in rows.column_names:
            return np.arange(len(rows)) / self._fps
        times = _vectors(rows, ("timestamp",), files.data)[:, 0].astype(np.float64)
        if len(wrong := np.flatnonzero(~(np.diff(times, prepend=-np.inf) > 0))):
            raise DatasetError(
                f"{files.data}: row {wrong[0]} of the episode has the timestamp {times[wrong[0]]:g}, not after the one"
                " before",
                hint="mend the timestamps, or leave the column out: rows then follow one another at the rate",
            )
        return times

    def _instruction(self, rows: pa.Table, files: EpisodeFiles) -> str:
        """Return the first timestep's instruction, or what is listed of the episode where the row says none."""
        if "task_index" not in rows.column_names or not self._tasks:
            return files.task
        (number,) = _vectors(rows.slice(0, 1), ("task_index",), files.data)[0]
        if number not in self._tasks and not files.task:
            raise DatasetError(
                f"{files.data}: row 0 of the episode has the task {number:g}, which no file of tasks has",
                hint=f"there are: {', '.join(map(str, sorted(self._tasks)))}",
            )
        return self._tasks.get(int(number), files.task)

    def _frames(
        self, key: str, files: EpisodeFiles, rows: pa.Table, times: Float64[np.ndarray, " length"]
    ) -> UInt8[np.ndarray, "length height width 3"]:
        if self._features[key]["dtype"] == "video":
            path, start = files.videos[key]
            return read_frames(path, start + times, self._fps)
        pictures = []
        for row, cell in enumerate(rows[key].to_pylist()):
            with said_of(f"{files.data}: {key} in row {row} of the episode"):
                pictures.append(decoded_picture(self._content(cell)))
        with said_of(f"{files.data}: {key}"):
            return stacked(pictures)

    def _content(self, cell: Any) -> bytes:
        """Return a picture's file, which lies in the cell, or where the cell says."""
        parts = {"bytes": cell} if isinstance(cell, bytes) else cell or {}
        if content := parts.get("bytes"):
            return content
        path = self._folder / str(parts.get("path") or "")
        if not path.is_file():
            raise DatasetError("there is no picture" if path == self._folder else f"{path} is missing", hint=COPY_AGAIN)
        return path.read_bytes()


def _is_camera(feature: Mapping[str, Any]) -> bool:
    return feature.get("dtype") in ("video", "image")


def _is_depth(key: str, feature: Mapping[str, Any]) -> bool:
    """Say whether a camera measures distances: LeRobot has marked it in several ways."""
    marks = [feature, *(of for of in (feature.get("info"), feature.get("video_info")) if isinstance(of, Mapping))]
    names, shape = feature.get("names") or [], feature.get("shape") or []
    said = names.values() if isinstance(names, Mapping) else names
    one_colour = len(shape) == 3 and 1 in (shape[0], shape[-1])
    return (
        any(mark.get("is_depth_map") or mark.get("video.is_depth_map") for mark in marks)
        or any(str(mark.get("video.pix_fmt", "")).startswith(("gray1", "gray9", "grayf")) for mark in marks)
        or any("depth" in str(name).lower() for name in said)
        or (one_colour and "depth" in key.lower())
    )


def _vectors(rows: pa.Table, keys: Iterable[str], path: Path) -> Float32[np.ndarray, "length dim"]:
    """Return columns of lists, or of numbers where there is one a timestep, beside one another."""
    return np.concatenate([_vectors_of(rows[key].to_pylist(), key, path) for key in keys], axis=1)


def _vectors_of(values: list[Any], key: str, path: Path) -> Float32[np.ndarray, "length dim"]:
    try:
        return np.array(values, np.float32).reshape(len(values), -1)
    except (TypeError, ValueError) as error:
        row = next((row for row, value in enumerate(values) if np.shape(value) != np.shape(values[0])), 0)
        raise DatasetError(
            f"{path}: {key} in row {row} of the episode is {str(values[row])[:80]}, where as many numbers are expected"
            " in every row",
            hint="mend the row, or leave the episode out",
        ) from error

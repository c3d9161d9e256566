"""Writes datasets in LeRobot's format, version 3.0: many episodes per file.

Follows src/lerobot/datasets of huggingface/lerobot (`dataset_writer.py`, `dataset_metadata.py`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.datasets.lerobot_features import (
    COUNTERS,
    CameraForm,
    FeatureArrays,
    column,
    counted_arrays,
    described,
    names_of_numbers,
    recorded_arrays,
    tasks_table,
)
from vla_server_base.datasets.lerobot_files import (
    FILES_IN_CHUNK,
    VERSION,
    VIDEO_PATH,
    FileNumber,
    dataset_info,
    read_statistics,
    write_json,
    write_statistics,
    write_tables,
)
from vla_server_base.datasets.lerobot_meta import (
    EPISODES,
    INFO,
    METADATA,
    STATS,
    TASKS,
    read_episodes,
    read_info,
    read_tasks,
)
from vla_server_base.datasets.lerobot_statistics import Statistics, episode_statistics, merged, with_quantiles
from vla_server_base.datasets.video import VideoWriter
from vla_server_base.errors import DatasetError

ANOTHER_FOLDER = "write episodes of another kind to another folder"


class LeRobotWriter:
    """Adds episodes to a LeRobot dataset, and creates it with the first ones if `folder` has none.

    Each file holds `episodes_per_file` episodes. They can be read when their file is complete, or after `close`; an
    interrupted program loses the episodes of its last file only. `cameras` says how images are stored: `video` is
    H.264, a fraction of the size and almost exact; `image` is PNG within the parquet, exact.

    Raises:
        DatasetError: the rate is not a whole number, or `folder` has a dataset of another rate or version.
    """

    def __init__(
        self,
        folder: Path | str,
        fps: float,
        *,
        cameras: CameraForm = "video",
        robot: str | None = None,
        episodes_per_file: int = 100,
    ):
        if fps != int(fps):
            raise DatasetError(
                f"fps: expected a whole number for a LeRobot dataset, got {fps:g}", hint="give a whole rate: --fps 5"
            )
        self._folder, self._fps, self._robot = Path(folder), int(fps), robot
        self._cameras: CameraForm = cameras
        self._episodes_per_file = episodes_per_file
        self._folder.mkdir(parents=True, exist_ok=True)  # A folder that cannot be written to fails now.
        self._features: Mapping[str, Any] | None = None
        self._statistics: list[Statistics] = []
        self._tasks: dict[str, int] = {}
        self._num_episodes, self._num_frames, self._file = 0, 0, FileNumber(0)
        if (self._folder / INFO).exists():
            self._resume()
        self._begin_file()

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, episode: RecordedEpisode) -> None:
        """Add an episode to the file that is being written.

        Raises:
            DatasetError: it has other features than the dataset, or images of odd sides for a video.
        """
        recorded = recorded_arrays(episode)
        self._check_features(described(recorded, names_of_numbers(episode), self._cameras, self._fps))
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        arrays = recorded | counted_arrays(self._num_episodes, self._num_frames, len(episode), task, self._fps)
        statistics = episode_statistics(arrays)
        self._statistics.append(statistics)
        self._rows.append(self._written(arrays))
        self._episode_rows.append(self._episode_row(episode, statistics))
        self._num_episodes += 1
        self._num_frames += len(episode)
        if len(self._rows) == self._episodes_per_file:
            self._finish_file()

    def close(self) -> None:
        """Complete the file that is being written."""
        if self._rows:
            self._finish_file()

    def _resume(self) -> None:
        info = read_info(self._folder)
        if (info["codebase_version"], info["fps"]) != (VERSION, self._fps):
            raise DatasetError(
                f"{self._folder} has version {info['codebase_version']} at {info['fps']} fps;"
                f" expected {VERSION} at {self._fps} fps",
                hint="write to another folder",
            )
        self._features = {key: feature for key, feature in info["features"].items() if key not in COUNTERS}
        self._num_episodes, self._num_frames = info["total_episodes"], info["total_frames"]
        if not (tasks := read_tasks(self._folder)):
            raise DatasetError(f"{self._folder} has no {TASKS}", hint="copy the dataset again")
        self._tasks = {task: index for index, task in tasks.items()}
        self._statistics = [read_statistics(self._folder / STATS)]
        last = read_episodes(self._folder).slice(self._num_episodes - 1, 1).to_pylist()[0]
        self._file = FileNumber(last["data/chunk_index"] * FILES_IN_CHUNK + last["data/file_index"] + 1)

    def _begin_file(self) -> None:
        self._rows: list[pa.Table] = []
        self._episode_rows: list[dict[str, Any]] = []
        self._videos: dict[str, VideoWriter] = {}

    def _check_features(self, features: Mapping[str, Any]) -> None:
        if self._features is not None and self._features != features:
            keys = [key for key in {**self._features, **features} if self._features.get(key) != features.get(key)]
            differences = [f"{key} is {features.get(key)}, expected {self._features.get(key)}" for key in keys]
            raise DatasetError(
                f"the episode does not fit the dataset in {self._folder}: {', '.join(differences)}", hint=ANOTHER_FOLDER
            )
        self._features = features

    def _written(self, arrays: FeatureArrays) -> pa.Table:
        """Write the frames of videos, and return the other features as a table."""
        in_video = {key for key, values in arrays.items() if values.ndim == 4 and self._cameras == "video"}
        for key in sorted(in_video):
            if key not in self._videos:
                path = self._file.video(self._folder, key)
                self._videos[key] = VideoWriter(path, self._fps, *arrays[key].shape[1:3])
            self._videos[key].write(arrays[key])
        return pa.table({key: column(values) for key, values in arrays.items() if key not in in_video})

    def _episode_row(self, episode: RecordedEpisode, statistics: Statistics) -> dict[str, Any]:
        """Return the row of `meta/episodes`; the episode's frames are written already."""
        length = len(episode)
        row: dict[str, Any] = {
            "episode_index": self._num_episodes,
            "tasks": [episode.instruction],
            "length": length,
            "dataset_from_index": self._num_frames,
            "dataset_to_index": self._num_frames + length,
            METADATA: json.dumps(dict(episode.metadata)),
        }
        for kind in ("data", EPISODES, *(f"videos/{key}" for key in self._videos)):
            row |= {f"{kind}/{name}": number for name, number in self._file.indices.items()}
        for key, video in self._videos.items():
            row[f"videos/{key}/from_timestamp"] = (video.num_frames - length) / self._fps
            row[f"videos/{key}/to_timestamp"] = video.num_frames / self._fps
        for key, values in statistics.items():
            row |= {f"stats/{key}/{name}": value.tolist() for name, value in values.items()}
        return row

    def _finish_file(self) -> None:
        """Write all files; the number of episodes comes last, so that a reader never misses an episode it counts."""
        for video in self._videos.values():
            video.close()
        write_tables(self._file.data(self._folder), self._rows)
        write_tables(self._file.episodes(self._folder), [pa.Table.from_pylist(self._episode_rows)])
        write_tables(self._folder / TASKS, [tasks_table(self._tasks)])
        self._statistics = [with_quantiles(merged(self._statistics), self._folder / "data")]
        write_statistics(self._folder / STATS, self._statistics[0])
        write_json(self._folder / INFO, self._info())
        self._file = FileNumber(self._file.number + 1)
        self._begin_file()

    def _info(self) -> dict[str, Any]:
        assert self._features is not None, "at least one episode was appended"
        return dataset_info(self._features, self._fps, self._robot) | {
            "total_episodes": self._num_episodes,
            "total_frames": self._num_frames,
            "total_tasks": len(self._tasks),
            "splits": {"train": f"0:{self._num_episodes}"},
            "video_path": VIDEO_PATH if self._cameras == "video" else None,
        }

"""Writes datasets in LeRobot's form, version 3.0: many episodes a file.

Follows src/lerobot/datasets of huggingface/lerobot (`dataset_writer.py`, `dataset_metadata.py`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.datasets.lerobot_features import (
    COUNTERS,
    Arrays,
    CameraForm,
    column,
    counted_arrays,
    described,
    described_counters,
    recorded_arrays,
    tasks_table,
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
from vla_server_base.datasets.lerobot_statistics import Statistics, episode_statistics, merged
from vla_server_base.datasets.video import VideoWriter
from vla_server_base.errors import DatasetError

VERSION = "v3.0"
FILES_IN_CHUNK = 1000
PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH, VIDEO_PATH = f"data/{PLACE}.parquet", f"videos/{{video_key}}/{PLACE}.mp4"


class LeRobotWriter:
    """Adds episodes to a dataset in LeRobot's form, made in `folder` with the first ones if there is none.

    `episodes_per_file` episodes go into each file. They are there when the file is complete, or on `close`; those that
    an interrupted program had not come to that with are lost, and nothing else is. `cameras` is how pictures are
    kept: `video` is H.264, a fraction of the size and not quite what was recorded; `image` is PNG within the parquet.

    Raises:
        DatasetError: the rate is not a whole number, or another dataset is in the folder than the episodes fit to.
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
            raise DatasetError(f"LeRobot's form takes a whole number of frames a second, not {fps:g}")
        self._folder, self._fps, self._robot = Path(folder), int(fps), robot
        self._cameras: CameraForm = cameras
        self._episodes_per_file = episodes_per_file
        self._features: Mapping[str, Any] | None = None
        self._statistics: list[Statistics] = []
        self._tasks: dict[str, int] = {}
        self._num_episodes = self._num_frames = self._file = 0
        if (self._folder / INFO).exists():
            self._go_on()
        self._begin_file()

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, episode: RecordedEpisode) -> None:
        """Add an episode, to the file that is being written.

        Raises:
            DatasetError: it is not like those there, or has pictures of odd sides for a video.
        """
        recorded = recorded_arrays(episode)
        features = described(recorded, self._cameras, self._fps)
        if self._features is not None and self._features != features:
            names = [key for key in {**self._features, **features} if self._features.get(key) != features.get(key)]
            differences = [f"{key} is {features.get(key)}, where it has {self._features.get(key)}" for key in names]
            raise DatasetError(
                f"the episode does not fit the dataset in {self._folder}: {', '.join(differences)}",
                hint="write episodes of another kind to another folder",
            )
        self._features = features
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        arrays = recorded | counted_arrays(self._num_episodes, self._num_frames, len(episode), task, self._fps)
        statistics = episode_statistics(arrays)
        self._statistics.append(statistics)
        self._rows.append(self._written(arrays))
        self._about_episodes.append(self._about(episode, statistics))
        self._num_episodes += 1
        self._num_frames += len(episode)
        if len(self._rows) == self._episodes_per_file:
            self._finish_file()

    def close(self) -> None:
        """Complete the file that is being written."""
        if self._rows:
            self._finish_file()

    def _go_on(self) -> None:
        info = read_info(self._folder)
        if (info["codebase_version"], info["fps"]) != (VERSION, self._fps):
            raise DatasetError(
                f"{self._folder} is of version {info['codebase_version']} at {info['fps']} fps,"
                f" where {VERSION} at {self._fps} fps is to be written",
                hint="write to another folder",
            )
        self._features = {key: feature for key, feature in info["features"].items() if key not in COUNTERS}
        self._num_episodes, self._num_frames = info["total_episodes"], info["total_frames"]
        if not (tasks := read_tasks(self._folder)):
            raise DatasetError(f"{self._folder} has no {TASKS}", hint="copy the dataset again")
        self._tasks = {task: index for index, task in tasks.items()}
        stored = json.loads((self._folder / STATS).read_text())
        self._statistics = [
            {
                key: {name: np.array(value, float) for name, value in of_feature.items()}
                for key, of_feature in stored.items()
            }
        ]
        last = read_episodes(self._folder).slice(self._num_episodes - 1, 1).to_pylist()[0]
        self._file = last["data/chunk_index"] * FILES_IN_CHUNK + last["data/file_index"] + 1

    def _begin_file(self) -> None:
        self._rows: list[pa.Table] = []
        self._about_episodes: list[dict[str, Any]] = []
        self._videos: dict[str, VideoWriter] = {}

    def _written(self, arrays: Arrays) -> pa.Table:
        """Write what goes into videos, and return the rest."""
        in_video = {key for key, values in arrays.items() if values.ndim == 4 and self._cameras == "video"}
        for key in sorted(in_video):
            if key not in self._videos:
                path = self._folder / VIDEO_PATH.format(video_key=key, **self._place)
                self._videos[key] = VideoWriter(path, self._fps, *arrays[key].shape[1:3])
            self._videos[key].write(arrays[key])
        return pa.table({key: column(values) for key, values in arrays.items() if key not in in_video})

    @property
    def _place(self) -> dict[str, int]:
        chunk, file = divmod(self._file, FILES_IN_CHUNK)
        return {"chunk_index": chunk, "file_index": file}

    def _about(self, episode: RecordedEpisode, statistics: Statistics) -> dict[str, Any]:
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
        for of in ("data", EPISODES, *(f"videos/{key}" for key in self._videos)):
            row |= {f"{of}/{name}": number for name, number in self._place.items()}
        for key, video in self._videos.items():
            row[f"videos/{key}/from_timestamp"] = (video.num_frames - length) / self._fps
            row[f"videos/{key}/to_timestamp"] = video.num_frames / self._fps
        for key, of_feature in statistics.items():
            row |= {f"stats/{key}/{name}": value.tolist() for name, value in of_feature.items()}
        return row

    def _finish_file(self) -> None:
        """Write all of it; the number of episodes last, so that a reader never finds one that is not there."""
        for video in self._videos.values():
            video.close()
        _write_tables(self._folder / DATA_PATH.format(**self._place), self._rows)
        about = self._folder / EPISODES / f"{PLACE.format(**self._place)}.parquet"
        _write_tables(about, [pa.Table.from_pylist(self._about_episodes)])
        _write_tables(self._folder / TASKS, [tasks_table(self._tasks)])
        self._statistics = [merged(self._statistics)]
        _write_json(self._folder / STATS, _as_json(self._statistics[0]))
        _write_json(self._folder / INFO, self._info())
        self._file += 1
        self._begin_file()

    def _info(self) -> dict[str, Any]:
        assert self._features is not None, "there is an episode"
        return {
            "codebase_version": VERSION,
            "robot_type": self._robot,
            "total_episodes": self._num_episodes,
            "total_frames": self._num_frames,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_IN_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self._fps,
            "splits": {"train": f"0:{self._num_episodes}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self._cameras == "video" else None,
            "features": {**self._features, **described_counters()},
        }


def _as_json(statistics: Statistics) -> dict[str, Any]:
    return {key: {name: value.tolist() for name, value in of_feature.items()} for key, of_feature in statistics.items()}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=4) + "\n")
    new.replace(path)


def _write_tables(path: Path, tables: list[pa.Table]) -> None:
    """Write each table as a row group, so that one is found without reading the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with pq.ParquetWriter(new, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    new.replace(path)

"""Reads datasets in LeRobot's form, version 3.0, and 2.0 and 2.1: parquet, and video or PNG.

Follows src/lerobot/datasets of huggingface/lerobot (`dataset_metadata.py`, `dataset_reader.py`).
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8
from PIL import Image as PillowImage

from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.datasets.video import read_frames
from vla_server_base.errors import DatasetError

INFO, STATS, TASKS, EPISODES = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/episodes"
IMAGES, STATE, ACTION = "observation.images.", "observation.state", "action"
ENVIRONMENT_STATE = "observation.environment_state"
EXPERT_DROVE = "expert_drove"
METADATA = "metadata"
"""A column of our own in `meta/episodes`: JSON of what else is known of the episode."""


@dataclass(frozen=True, kw_only=True)
class EpisodeFiles:
    """Where one episode is: rows with its number in `data`, its frames from some time [s] on in `videos`, by key."""

    data: Path
    videos: Mapping[str, tuple[Path, float]]
    metadata: Mapping[str, Any] = field(default_factory=dict)


class LeRobotDataset:
    """A local folder in LeRobot's form.

    The camera of the feature `observation.images.<name>` is called name; `observation.state` is the proprio, and
    `observation.environment_state` what it is called here, too. Of an episode with several tasks, the instruction is
    that of the first timestep. Other features are not read.

    Raises:
        DatasetError: there is no such dataset in the folder, it is damaged, or of a version not read here.
    """

    def __init__(self, folder: Path | str):
        self._folder = Path(folder)
        try:
            self._open(read_info(self._folder))
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            raise _damaged(self._folder, error) from error

    def _open(self, info: Mapping[str, Any]) -> None:
        self._fps, self._features = float(info["fps"]), info["features"]
        version = str(info["codebase_version"])
        if version.startswith("v3."):
            self._tasks = read_tasks(self._folder)
            self._episodes = _episodes(self._folder, info)
        elif version.startswith("v2."):
            self._tasks = _legacy_tasks(self._folder)
            self._episodes = _legacy_episodes(self._folder, info)
        else:
            raise DatasetError(
                f"{self._folder} is of LeRobot's version {version}; read here are 3.0, 2.1 and 2.0",
                hint="LeRobot's own scripts convert older versions",
            )
        self._cameras = {key: feature for key, feature in self._features.items() if _is_camera(feature)}
        if ACTION not in self._features:
            raise DatasetError(f"{self._folder} has no feature '{ACTION}'; it has: {', '.join(self._features)}")

    @property
    def fps(self) -> float:
        return self._fps

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> RecordedEpisode:
        files = self._episodes[index]
        try:
            rows = self._rows(files, index % len(self))
            times = rows["timestamp"].to_numpy().astype(np.float64)
            images = {
                camera_name(key): self._frames(key, feature, files, rows, times)
                for key, feature in self._cameras.items()
            }
            return RecordedEpisode(
                images=images,
                proprio=_optional_vectors(rows, STATE),
                environment_state=_optional_vectors(rows, ENVIRONMENT_STATE),
                actions=_vectors(rows[ACTION]),
                instruction=self._tasks[rows["task_index"][0].as_py()],
                expert_drove=rows[EXPERT_DROVE].to_numpy().astype(bool) if EXPERT_DROVE in rows.column_names else None,
                metadata=files.metadata,
            )
        except (OSError, pa.ArrowException, ValueError, KeyError, IndexError) as error:
            raise _damaged(files.data, error) from error

    def metadata(self, index: int) -> Mapping[str, Any]:
        return self._episodes[index].metadata

    def _rows(self, files: EpisodeFiles, index: int) -> pa.Table:
        in_rows = [key for key, feature in self._cameras.items() if feature["dtype"] == "image"]
        wanted = {ACTION, STATE, ENVIRONMENT_STATE, EXPERT_DROVE} & self._features.keys()
        columns = [*in_rows, *sorted(wanted), "timestamp", "task_index"]
        rows = pq.read_table(files.data, columns=columns, filters=[("episode_index", "=", index)])
        if not len(rows):
            raise DatasetError(f"{files.data} lacks episode {index}", hint="copy the dataset again")
        return rows

    def _frames(
        self, key: str, feature: Mapping[str, Any], files: EpisodeFiles, rows: pa.Table, times: np.ndarray
    ) -> UInt8[np.ndarray, "length height width 3"]:
        if feature["dtype"] == "video":
            path, start = files.videos[key]
            return read_frames(path, start + times, self._fps)
        return np.stack([self._decoded(cell) for cell in rows[key].to_pylist()])

    def _decoded(self, cell: Mapping[str, Any]) -> UInt8[np.ndarray, "height width 3"]:
        content = io.BytesIO(cell["bytes"]) if cell["bytes"] else self._folder / cell["path"]
        return np.asarray(PillowImage.open(content).convert("RGB"))


def _is_camera(feature: Mapping[str, Any]) -> bool:
    is_depth = (feature.get("info") or {}).get("is_depth_map", False)
    return feature["dtype"] in ("video", "image") and not is_depth


def camera_name(key: str) -> str:
    """Return what the camera of a feature is called; `observation.image`, of datasets with one camera, is `primary`."""
    return "primary" if key == "observation.image" else key.removeprefix(IMAGES)


def read_info(folder: Path) -> Mapping[str, Any]:
    """Read `meta/info.json`.

    Raises:
        DatasetError: there is none.
    """
    path = folder / INFO
    if not path.exists():
        raise DatasetError(f"{folder} holds no LeRobot dataset: it has no {INFO}", hint="name the folder that has")
    return json.loads(path.read_text())


def read_tasks(folder: Path) -> dict[int, str]:
    """Read the instructions by their number."""
    table = pq.read_table(folder / TASKS)
    # A data frame's index, under the name that it had when it was written.
    (name,) = set(table.column_names) - {"task_index"}
    return dict(zip(table["task_index"].to_pylist(), table[name].to_pylist(), strict=True))


def read_episodes(folder: Path) -> pa.Table:
    """Read what is known of each episode, in their order; without the columns of statistics."""
    paths = sorted((folder / EPISODES).glob("*/*.parquet"))
    names = [name for name in pq.read_schema(paths[0]).names if not name.startswith("stats/")] if paths else []
    if not paths:
        return pa.table({"episode_index": pa.array([], pa.int64())})
    return pa.concat_tables([pq.read_table(path, columns=names) for path in paths]).sort_by("episode_index")


def _episodes(folder: Path, info: Mapping[str, Any]) -> list[EpisodeFiles]:
    keys = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    # What a writer was interrupted over stands behind the number of episodes.
    return [_episode(folder, info, keys, row) for row in read_episodes(folder).to_pylist()[: info["total_episodes"]]]


def _episode(folder: Path, info: Mapping[str, Any], keys: list[str], row: Mapping[str, Any]) -> EpisodeFiles:
    def path(template: str, of: str, **key: str) -> Path:
        numbers = {"chunk_index": row[f"{of}/chunk_index"], "file_index": row[f"{of}/file_index"]}
        return folder / template.format(**numbers, **key)

    videos = {
        key: (path(info["video_path"], f"videos/{key}", video_key=key), row[f"videos/{key}/from_timestamp"])
        for key in keys
    }
    said = row.get(METADATA)
    return EpisodeFiles(data=path(info["data_path"], "data"), videos=videos, metadata=json.loads(said) if said else {})


def _legacy_tasks(folder: Path) -> dict[int, str]:
    lines = (folder / "meta" / "tasks.jsonl").read_text().splitlines()
    return {task["task_index"]: task["task"] for task in map(json.loads, lines)}


def _legacy_episodes(folder: Path, info: Mapping[str, Any]) -> list[EpisodeFiles]:
    """Each episode has files of its own."""
    keys = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]

    def path(template: str, index: int, **key: str) -> Path:
        chunk = index // info["chunks_size"]
        return folder / template.format(episode_chunk=chunk, episode_index=index, **key)

    return [
        EpisodeFiles(
            data=path(info["data_path"], index),
            videos={key: (path(info["video_path"], index, video_key=key), 0.0) for key in keys},
        )
        for index in range(info["total_episodes"])
    ]


def _optional_vectors(rows: pa.Table, key: str) -> np.ndarray | None:
    return _vectors(rows[key]) if key in rows.column_names else None


def _vectors(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of lists, or of numbers where there is one a timestep, as rows of float32."""
    return np.array(column.to_pylist(), np.float32).reshape(len(column), -1)


def _damaged(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path} is damaged or incomplete ({error})", hint="copy the dataset again")

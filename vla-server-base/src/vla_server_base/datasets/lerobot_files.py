"""The files of a LeRobot dataset of version 3.0 that is being written; a complete one replaces the old."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_server_base.datasets.lerobot_features import described_counters
from vla_server_base.datasets.lerobot_meta import EPISODES
from vla_server_base.datasets.lerobot_statistics import Statistics

VERSION = "v3.0"
FILES_IN_CHUNK = 1000
LOCATION = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH, VIDEO_PATH = f"data/{LOCATION}.parquet", f"videos/{{video_key}}/{LOCATION}.mp4"


@dataclass(frozen=True)
class FileNumber:
    """The number of the parquet and video files that are written together."""

    number: int

    @property
    def indices(self) -> dict[str, int]:
        """Return the chunk and the file in it, as paths and tables name them."""
        chunk, file = divmod(self.number, FILES_IN_CHUNK)
        return {"chunk_index": chunk, "file_index": file}

    def data(self, folder: Path) -> Path:
        """Return the path of the timesteps."""
        return folder / DATA_PATH.format(**self.indices)

    def video(self, folder: Path, key: str) -> Path:
        """Return the path of a camera's video."""
        return folder / VIDEO_PATH.format(video_key=key, **self.indices)

    def episodes(self, folder: Path) -> Path:
        """Return the path of the table of episodes."""
        return folder / EPISODES / f"{LOCATION.format(**self.indices)}.parquet"


def dataset_info(features: Mapping[str, Any], fps: int, robot: str | None) -> dict[str, Any]:
    """Return what stays the same in `meta/info.json` while episodes are added."""
    return {
        "codebase_version": VERSION,
        "robot_type": robot,
        "chunks_size": FILES_IN_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "data_path": DATA_PATH,
        "features": {**features, **described_counters()},
    }


def write_tables(path: Path, tables: list[pa.Table]) -> None:
    """Write each table as a row group, so that a reader finds one without reading the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".new")
    with pq.ParquetWriter(partial, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    partial.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object."""
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(content, indent=4) + "\n")
    partial.replace(path)


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Write statistics by feature."""
    write_json(
        path, {key: {name: value.tolist() for name, value in values.items()} for key, values in statistics.items()}
    )


def read_statistics(path: Path) -> Statistics:
    """Read what `write_statistics` wrote."""
    stored = json.loads(path.read_text())
    return {key: {name: np.array(value, float) for name, value in values.items()} for key, values in stored.items()}

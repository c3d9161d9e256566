"""Where the episodes of a LeRobot dataset are: files, rows and times; this file finds those of version 3."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_server_base.datasets.lerobot_meta import COPY_AGAIN, EPISODES, INFO, METADATA, read_episodes, task_text
from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True, kw_only=True)
class EpisodeFiles:
    """Where one episode is: rows of `data`; in `videos`, by key, a file and the time [s] of its first frame.

    `has_own_file` says that all rows of `data` belong to the episode. `task` is the first of its listed tasks.
    """

    number: int
    data: Path
    videos: Mapping[str, tuple[Path, float]]
    has_own_file: bool
    task: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def episode_files(folder: Path, info: Mapping[str, Any], video_keys: list[str]) -> list[EpisodeFiles]:
    """Return the episodes of a dataset of version 3 that have a timestep.

    Raises:
        DatasetError: `meta/episodes` is damaged, or does not say where an episode is.
    """
    rows = read_episodes(folder).to_pylist()
    total = info.get("total_episodes", len(rows))
    if len(rows) < total:
        logger.warning("%s lists %d episodes, but %s counts %d", folder / EPISODES, len(rows), INFO, total)
    # Rows beyond the total were written by a program that was interrupted.
    return [_episode(folder, info, video_keys, row) for row in with_timesteps(folder, rows[:total])]


def with_timesteps(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of episodes that have a timestep, and log the others."""
    for row in rows:
        if row.get("length") == 0:
            logger.warning("%s: skipped episode %s, which has no timestep", folder, row["episode_index"])
    return [row for row in rows if row.get("length") != 0]


def first_task(row: Mapping[str, Any]) -> str:
    """Return the first task that an episode's row lists; empty if it lists none."""
    tasks = row.get("tasks")
    return task_text(tasks[0] if isinstance(tasks, list) and tasks else tasks or "")


def _episode(folder: Path, info: Mapping[str, Any], keys: list[str], row: Mapping[str, Any]) -> EpisodeFiles:
    def path(template: str, kind: str, **key: str) -> Path:
        numbers = {"chunk_index": row[f"{kind}/chunk_index"], "file_index": row[f"{kind}/file_index"]}
        return folder / template.format(**numbers, **key)

    template = info.get("video_path") or VIDEO_PATH
    try:
        videos = {
            key: (path(template, f"videos/{key}", video_key=key), row[f"videos/{key}/from_timestamp"] or 0.0)
            for key in keys
        }
        data = path(info.get("data_path") or DATA_PATH, "data")
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{folder / EPISODES} does not say where episode {row.get('episode_index')} is ({error!r})", hint=COPY_AGAIN
        ) from error
    return EpisodeFiles(
        number=row["episode_index"],
        data=data,
        videos=videos,
        has_own_file=False,
        task=first_task(row),
        metadata=_metadata(row.get(METADATA)),
    )


def _metadata(cell: Any) -> Mapping[str, Any]:
    """Read the metadata that our writer stores; a column of that name may hold something else in other datasets."""
    try:
        metadata = json.loads(cell)
    except (TypeError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}

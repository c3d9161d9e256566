"""Where the episodes of a LeRobot dataset of version 2.0 or 2.1 are: each has its own files."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vla_server_base.datasets.json_values import read_json_values
from vla_server_base.datasets.lerobot_episodes import EpisodeFiles, first_task, with_timesteps
from vla_server_base.datasets.lerobot_meta import COPY_AGAIN
from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

EPISODE_LIST = "meta/episodes.jsonl"
EPISODES_IN_CHUNK = 1000
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def episode_files_v2(folder: Path, info: Mapping[str, Any], video_keys: list[str]) -> list[EpisodeFiles]:
    """Return the episodes that `meta/episodes.jsonl` lists; without that file, those of `total_episodes` that exist.

    Raises:
        DatasetError: a file of an episode is missing or damaged.
    """

    def path(template: str, index: int, **key: str) -> Path:
        chunk = index // int(info.get("chunks_size") or EPISODES_IN_CHUNK)
        return folder / template.format(episode_chunk=chunk, episode_index=index, **key)

    data_path, video_path = info.get("data_path") or DATA_PATH, info.get("video_path") or VIDEO_PATH
    rows = _listed_episodes(folder)
    if rows is None:
        numbers = range(int(info.get("total_episodes") or 0))
        rows = [{"episode_index": number} for number in numbers if path(data_path, number).exists()]
    episodes = []
    for row in with_timesteps(folder, rows):
        number = row["episode_index"]
        videos = {key: (path(video_path, number, video_key=key), 0.0) for key in video_keys}
        data = path(data_path, number)
        if _num_rows(data):
            task = first_task(row)
            episodes.append(EpisodeFiles(number=number, data=data, videos=videos, has_own_file=True, task=task))
        else:
            logger.warning("skipped %s, which has no timestep", data)
    return episodes


def _listed_episodes(folder: Path) -> list[dict[str, Any]] | None:
    path = folder / EPISODE_LIST
    if not path.exists():
        return None
    rows = read_json_values(path)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("episode_index"), int):
            raise DatasetError(f"{path}: entry {number} has no episode_index", hint="fix the entry, or remove it")
    return sorted(rows, key=lambda row: row["episode_index"])


def _num_rows(path: Path) -> int:
    if not path.exists():
        raise DatasetError(f"{path} is missing", hint=f"{COPY_AGAIN}, or remove the episode from {EPISODE_LIST}")
    try:
        return pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is damaged or incomplete ({error})", hint=COPY_AGAIN) from error

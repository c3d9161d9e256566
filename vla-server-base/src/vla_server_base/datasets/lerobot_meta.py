"""What LeRobot's folders say of themselves in `meta/`: features, instructions, and where each episode lies.

Follows `dataset_metadata.py` of huggingface/lerobot. Files that were mended by hand are read where it is plain what
they mean: blank lines, indents, a byte order mark, episodes that were deleted.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

INFO, STATS, TASKS, EPISODES = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/episodes"
LEGACY_TASKS, LEGACY_EPISODES = "meta/tasks.jsonl", "meta/episodes.jsonl"
METADATA = "metadata"
"""A column of our own in `meta/episodes`: JSON of what else is known of the episode."""

EPISODES_IN_CHUNK = 1000
LEGACY_DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
LEGACY_VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
COPY_AGAIN = "copy the dataset again"


@dataclass(frozen=True, kw_only=True)
class EpisodeFiles:
    """Where one episode is: rows in `data`, its frames from some time [s] on in `videos`, by key.

    `has_own_file` says that all rows there are the episode's. `task` is what its list of tasks says first.
    """

    number: int
    data: Path
    videos: Mapping[str, tuple[Path, float]]
    has_own_file: bool
    task: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_info(folder: Path) -> Mapping[str, Any]:
    """Read `meta/info.json`.

    Raises:
        DatasetError: there is none, it is damaged, or lacks what says how to read the rest.
    """
    path = folder / INFO
    if not path.exists():
        raise DatasetError(f"{folder} holds no LeRobot dataset: it has no {INFO}", hint="name the folder that has")
    values = _json_values(path)
    if len(values) != 1 or not isinstance(info := values[0], dict):
        raise DatasetError(f"{path} holds {len(values)} values, where one JSON object is expected", hint=COPY_AGAIN)
    if absent := [name for name in ("codebase_version", "fps", "features") if name not in info]:
        raise DatasetError(f"{path} lacks '{absent[0]}'", hint=COPY_AGAIN)
    if not isinstance(fps := info["fps"], int | float) or not 0 < fps < float("inf"):
        raise DatasetError(f"{path}: fps is {fps!r}, where a rate in Hz is expected", hint="write the rate there")
    if not isinstance(features := info["features"], dict) or not all(isinstance(of, dict) for of in features.values()):
        raise DatasetError(f"{path}: 'features' is not an object of objects", hint=COPY_AGAIN)
    return info


def read_tasks(folder: Path) -> dict[int, str]:
    """Read the instructions by their number; none where no file has them.

    Raises:
        DatasetError: the file that has them is damaged.
    """
    if (path := folder / TASKS).exists():
        table = _read_table(path)
        rows = table.to_pylist()
        # A data frame's index, under the name that it had when it was written.
        texts = [column.name for column in table.schema if column.name != "task_index" and _is_text(column.type)]
        text = next((name for name in ("task", "__index_level_0__") if name in texts), (texts or ["task"])[0])
    elif (path := folder / LEGACY_TASKS).exists():
        rows, text = _json_values(path), "task"
    else:
        return {}
    return dict(_numbered_task(path, number, row, text) for number, row in enumerate(rows, 1))


def _numbered_task(path: Path, number: int, row: Any, text: str) -> tuple[int, str]:
    try:
        return int(row["task_index"]), _task(row[text])
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path}: entry {number} is {row!r}, where task_index and {text} are expected",
            hint="mend it: a number and the instruction",
        ) from error


def read_episodes(folder: Path) -> pa.Table:
    """Read what is known of each episode, in their order; without the columns of statistics.

    Raises:
        DatasetError: there is nothing, or a file is damaged.
    """
    # Hidden files are what a file manager left.
    paths = sorted(path for path in (folder / EPISODES).glob("*/*.parquet") if not path.name.startswith("."))
    if not paths:
        raise DatasetError(f"{folder / EPISODES} is missing or empty", hint=COPY_AGAIN)
    tables = [_read_table(path) for path in paths]
    kept = [t.select([name for name in t.column_names if not name.startswith("stats/")]) for t in tables]
    return pa.concat_tables(kept, promote_options="default").sort_by("episode_index")


def episode_files(folder: Path, info: Mapping[str, Any], video_keys: list[str]) -> list[EpisodeFiles]:
    """Return the episodes of a dataset of version 3, but for those without a timestep.

    Raises:
        DatasetError: `meta/episodes` is damaged, or says nothing of where an episode is.
    """
    rows = read_episodes(folder).to_pylist()
    total = info.get("total_episodes", len(rows))
    if len(rows) < total:
        logger.warning("%s lists %d episodes, where %s counts %d", folder / EPISODES, len(rows), INFO, total)
    # What a writer was interrupted over stands behind the number of episodes.
    return [_episode(folder, info, video_keys, row) for row in _with_timesteps(folder, rows[:total])]


def _episode(folder: Path, info: Mapping[str, Any], keys: list[str], row: Mapping[str, Any]) -> EpisodeFiles:
    def path(template: str, of: str, **key: str) -> Path:
        numbers = {"chunk_index": row[f"{of}/chunk_index"], "file_index": row[f"{of}/file_index"]}
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
        task=_first_task(row),
        metadata=_metadata(row.get(METADATA)),
    )


def legacy_episode_files(folder: Path, info: Mapping[str, Any], video_keys: list[str]) -> list[EpisodeFiles]:
    """Return the episodes of a dataset of version 2, of which each has files of its own.

    Those that `meta/episodes.jsonl` lists are meant, without one all that `total_episodes` counts and that are there.

    Raises:
        DatasetError: a file that is listed is missing or damaged.
    """

    def path(template: str, index: int, **key: str) -> Path:
        chunk = index // int(info.get("chunks_size") or EPISODES_IN_CHUNK)
        return folder / template.format(episode_chunk=chunk, episode_index=index, **key)

    data_path = info.get("data_path") or LEGACY_DATA_PATH
    rows = _legacy_rows(folder)
    if rows is None:
        numbers = range(int(info.get("total_episodes") or 0))
        rows = [{"episode_index": number} for number in numbers if path(data_path, number).exists()]
    found = []
    for row in _with_timesteps(folder, rows):
        number, video_path = row["episode_index"], info.get("video_path") or LEGACY_VIDEO_PATH
        videos = {key: (path(video_path, number, video_key=key), 0.0) for key in video_keys}
        data = path(data_path, number)
        if _num_rows(data):
            task = _first_task(row)
            found.append(EpisodeFiles(number=number, data=data, videos=videos, has_own_file=True, task=task))
        else:
            logger.warning("%s has no timestep; the episode is left out", data)
    return found


def _legacy_rows(folder: Path) -> list[dict[str, Any]] | None:
    path = folder / LEGACY_EPISODES
    if not path.exists():
        return None
    rows = _json_values(path)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("episode_index"), int):
            raise DatasetError(f"{path}: entry {number} has no episode_index", hint="mend it, or remove it")
    return sorted(rows, key=lambda row: row["episode_index"])


def _with_timesteps(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        if row.get("length") == 0:
            logger.warning("%s: episode %s has no timestep and is left out", folder, row["episode_index"])
    return [row for row in rows if row.get("length") != 0]


def _num_rows(path: Path) -> int:
    if not path.exists():
        raise DatasetError(f"{path} is missing", hint=f"{COPY_AGAIN}, or take the episode out of {LEGACY_EPISODES}")
    try:
        return pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is damaged or incomplete ({error})", hint=COPY_AGAIN) from error


def _json_values(path: Path) -> list[Any]:
    """Read JSON values that stand one after another, with any blank lines and indents between them and in them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is no text in UTF-8 ({error})", hint=COPY_AGAIN) from error
    decoder, values, at = json.JSONDecoder(), [], _after_space(text, 0)
    while at < len(text):
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{path}, line {error.lineno}: {error.msg}", hint="mend that line, or copy the dataset again"
            ) from error
        values.append(value)
        at = _after_space(text, end)
    return values


def _after_space(text: str, at: int) -> int:
    space = re.compile(r"\s*").match(text, at)
    assert space is not None, "nothing at all is space, too"
    return space.end()


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is damaged or incomplete ({error})", hint=COPY_AGAIN) from error


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)


def _first_task(row: Mapping[str, Any]) -> str:
    tasks = row.get("tasks")
    return _task(tasks[0] if isinstance(tasks, list) and tasks else tasks or "")


def _task(given: Any) -> str:
    """Return a text; null and a list of one text are taken for what they mean."""
    if isinstance(given, list) and len(given) == 1:
        (given,) = given
    if given is not None and not isinstance(given, str):
        raise ValueError(f"{given!r} is no instruction")
    return given or ""


def _metadata(said: Any) -> Mapping[str, Any]:
    """Return what our writer wrote; others may call a column so that holds something else."""
    try:
        found = json.loads(said)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

"""The folder `meta/` of a LeRobot dataset: features, instructions, and the table of episodes.

Follows `dataset_metadata.py` of huggingface/lerobot. Also reads files that were edited by hand, if their meaning is
clear: blank lines, indentation, a byte order mark, deleted episodes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vla_server_base.datasets.json_values import read_json_values
from vla_server_base.errors import DatasetError

INFO, STATS, TASKS, EPISODES = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/episodes"
TASKS_V2 = "meta/tasks.jsonl"
METADATA = "metadata"
"""A column that we add to `meta/episodes`: an episode's metadata as JSON."""

COPY_AGAIN = "copy the dataset again"


def read_info(folder: Path) -> Mapping[str, Any]:
    """Read `meta/info.json`.

    Raises:
        DatasetError: the file is missing or damaged, or lacks what describes the other files.
    """
    path = folder / INFO
    if not path.exists():
        raise DatasetError(f"{folder} is not a LeRobot dataset: it has no {INFO}", hint="name the folder that has it")
    values = read_json_values(path)
    if len(values) != 1 or not isinstance(info := values[0], dict):
        raise DatasetError(f"{path}: expected one JSON object, got {len(values)} values", hint=COPY_AGAIN)
    if absent := [name for name in ("codebase_version", "fps", "features") if name not in info]:
        raise DatasetError(f"{path} lacks '{absent[0]}'", hint=COPY_AGAIN)
    if not isinstance(fps := info["fps"], int | float) or not 0 < fps < float("inf"):
        raise DatasetError(f"{path}: expected fps to be a rate in Hz, got {fps!r}", hint="write the rate there")
    features = info["features"]
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise DatasetError(f"{path}: expected 'features' to be an object of objects", hint=COPY_AGAIN)
    return info


def read_tasks(folder: Path) -> dict[int, str]:
    """Read the instructions by their number; empty if no file has them.

    Raises:
        DatasetError: the file with them is damaged.
    """
    if (path := folder / TASKS).exists():
        table = _read_table(path)
        rows = table.to_pylist()
        # The index of a data frame, under the name that it had when it was written.
        texts = [column.name for column in table.schema if column.name != "task_index" and _is_text(column.type)]
        text = next((name for name in ("task", "__index_level_0__") if name in texts), (texts or ["task"])[0])
    elif (path := folder / TASKS_V2).exists():
        rows, text = read_json_values(path), "task"
    else:
        return {}
    return dict(_numbered_task(path, number, row, text) for number, row in enumerate(rows, 1))


def read_episodes(folder: Path) -> pa.Table:
    """Read the table of episodes in their order, without the columns of statistics.

    Raises:
        DatasetError: it is missing, or one of its files is damaged.
    """
    # File managers leave hidden files.
    paths = sorted(path for path in (folder / EPISODES).glob("*/*.parquet") if not path.name.startswith("."))
    if not paths:
        raise DatasetError(f"{folder / EPISODES} is missing or empty", hint=COPY_AGAIN)
    tables = [_read_table(path) for path in paths]
    without_statistics = [t.select([name for name in t.column_names if not name.startswith("stats/")]) for t in tables]
    return pa.concat_tables(without_statistics, promote_options="default").sort_by("episode_index")


def task_text(value: Any) -> str:
    """Return an instruction, of which null and a list of one text are other forms.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if value is not None and not isinstance(value, str):
        raise ValueError(f"expected an instruction, got {value!r}")
    return value or ""


def _numbered_task(path: Path, number: int, row: Any, text: str) -> tuple[int, str]:
    try:
        return int(row["task_index"]), task_text(row[text])
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path}: entry {number}: expected task_index and {text}, got {row!r}",
            hint="fix the entry: a number and the instruction",
        ) from error


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is damaged or incomplete ({error})", hint=COPY_AGAIN) from error


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)

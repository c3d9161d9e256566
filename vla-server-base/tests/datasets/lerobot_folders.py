"""Folders in LeRobot's form: version 3, as our writer makes them, and version 2, formed from such ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vla_server_base.datasets import RecordedEpisode
from vla_server_base.datasets.lerobot_writer import LeRobotWriter

VIDEO_TOLERANCE = 3
"""Of 255, on average over a frame: colours are halved in resolution. Neighbouring frames here are 10 apart."""
KEY = "observation.images.primary"


def write(folder, episodes, **settings):
    with LeRobotWriter(folder, fps=5, **settings) as writer:
        for episode in episodes:
            writer.append(episode)
    return folder


def write_version_2(folder: Path, episodes: list[RecordedEpisode], **info: Any) -> Path:
    """Write what 2.1 has: files of its own for each episode, and their lists in JSON lines; `info` is changed so."""
    places = {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (folder / "meta").mkdir(parents=True)
    stored = {}
    for number, episode in enumerate(episodes):
        one = write(folder.with_name(f"{folder.name}-{number}"), [episode])
        stored = json.loads((one / "meta/info.json").read_text())
        rows = pq.read_table(one / "data/chunk-000/file-000.parquet")
        for column in ("episode_index", "task_index"):
            rows = set_column(rows, column, pa.array([number] * len(rows)))
        (path := folder / places["data_path"].format(episode_chunk=0, episode_index=number)).parent.mkdir(
            parents=True, exist_ok=True
        )
        pq.write_table(rows, path)
        for video in one.glob("videos/*/chunk-000/file-000.mp4"):
            key = video.parts[-3]
            path = folder / places["video_path"].format(episode_chunk=0, episode_index=number, video_key=key)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(video, path)
    tasks = [{"task_index": number, "task": episode.instruction} for number, episode in enumerate(episodes)]
    listed = [{"episode_index": number, "length": len(episode)} for number, episode in enumerate(episodes)]
    write_json(folder, {**stored, "codebase_version": "v2.1", "total_episodes": len(episodes), **places, **info})
    write_lines(folder / "meta/tasks.jsonl", tasks)
    write_lines(folder / "meta/episodes.jsonl", listed)
    return folder


def change_info(folder: Path, change) -> None:
    """Have `change` change what `meta/info.json` says."""
    info = json.loads((folder / "meta/info.json").read_text())
    change(info)
    write_json(folder, info)


def write_json(folder: Path, info: dict[str, Any]) -> None:
    (folder / "meta/info.json").write_text(json.dumps(info, indent=4))


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def set_column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def change_rows(path: Path, name: str, change) -> None:
    """Have `change` return other values for a column of a parquet file."""
    rows = pq.read_table(path)
    pq.write_table(set_column(rows, name, pa.array(change(rows[name].to_pylist()))), path)

"""Reads LeRobot datasets of versions 3.0, 2.1 and 2.0: parquet, and video or PNG.

Follows src/lerobot/datasets of huggingface/lerobot (`dataset_metadata.py`, `dataset_reader.py`).
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, UInt8

from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.datasets.error_context import error_context
from vla_server_base.datasets.images import decode_images
from vla_server_base.datasets.keys import Keys, camera_name, choose, chosen_keys
from vla_server_base.datasets.lerobot_columns import is_camera, is_depth, names_of, vectors
from vla_server_base.datasets.lerobot_episodes import EpisodeFiles, episode_files
from vla_server_base.datasets.lerobot_meta import COPY_AGAIN, read_info, read_tasks
from vla_server_base.datasets.lerobot_v2 import episode_files_v2
from vla_server_base.datasets.video import read_frames
from vla_server_base.errors import DatasetError

logger = logging.getLogger(__name__)

STATE, ACTION = "observation.state", "action"
ENVIRONMENT_STATE = "environment_state"
"""Not `observation.environment_state`, which LeRobot makes an input of every policy that it trains."""
ENVIRONMENT_STATES = (ENVIRONMENT_STATE, "observation.environment_state")
EXPERT_DROVE = "expert_drove"
KNOWN_ACTIONS, KNOWN_STATES = ((ACTION,), ("actions",)), ((STATE,), ("state",))
"""LeRobot's own keys, and those of openpi's conversion scripts."""


class LeRobotDataset:
    """A local folder with a LeRobot dataset.

    The camera of the feature `observation.images.<name>` is called name; `observation.state` is the proprio;
    `environment_state`, or else `observation.environment_state`, is the environment's. Names of states and actions are
    read where they are lists. `keys` can choose other features. The instruction of an episode with
    several tasks is that of its first timestep. Other features and depth are not read.

    Raises:
        DatasetError: the folder has no such dataset, it is damaged, or has an unsupported version.
    """

    def __init__(self, folder: Path | str, keys: Keys = Keys()):  # noqa: B008 (frozen)
        self._folder = Path(folder)
        info = read_info(self._folder)
        self._fps, self._features = float(info["fps"]), info["features"]
        self._cameras = self._chosen_cameras(keys)
        numbers = [key for key, feature in self._features.items() if not is_camera(feature)]
        source = str(self._folder)
        self._actions = chosen_keys("--action-key", keys.action, KNOWN_ACTIONS, numbers, source)
        self._states = chosen_keys("--state-key", keys.state, KNOWN_STATES, numbers, source)
        if not self._actions:
            raise DatasetError(f"{source} has no feature '{ACTION}'", hint=choose("--action-key", numbers))
        if keys.instruction:
            raise DatasetError(
                f"--instruction-key {keys.instruction}: a LeRobot dataset has its instructions as tasks",
                hint="leave the option out",
            )
        self._tasks = read_tasks(self._folder)
        self._episodes = self._listed(info)

    def _chosen_cameras(self, keys: Keys) -> dict[str, str]:
        """Return the features of cameras by camera name."""
        cameras = [key for key, feature in self._features.items() if is_camera(feature)]
        for key in cameras:
            if is_depth(key, self._features[key]):
                logger.warning("%s: skipped %s, which is depth", self._folder, key)
        images = [key for key in cameras if not is_depth(key, self._features[key])]
        by_name = {camera_name(key): key for key in images}
        if not keys.cameras:
            return by_name
        for name, key in keys.cameras.items():
            if key not in by_name and key not in images:
                raise DatasetError(f"{self._folder} has no camera '{key}'", hint=choose(f"--camera {name}=", images))
        return {name: by_name.get(key, key) for name, key in keys.cameras.items()}

    def _listed(self, info: Mapping[str, Any]) -> list[EpisodeFiles]:
        version = str(info["codebase_version"]).removeprefix("v")
        videos = [key for key in self._cameras.values() if self._features[key]["dtype"] == "video"]
        if version.startswith("3."):
            return episode_files(self._folder, info, videos)
        if version.startswith("2."):
            return episode_files_v2(self._folder, info, videos)
        raise DatasetError(
            f"{self._folder} has LeRobot version {info['codebase_version']}; expected 3.0, 2.1 or 2.0",
            hint="convert it with LeRobot's scripts",
        )

    @property
    def fps(self) -> float:
        return self._fps

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> RecordedEpisode:
        files = self._episodes[index]
        with error_context(f"episode {files.number} of {self._folder}"):
            rows = self._rows(files)
            times = self._times(rows, files)
            simulated = [key for key in ENVIRONMENT_STATES if key in rows.column_names and key not in self._states][:1]
            return RecordedEpisode.of(
                images={name: self._images_of(key, files, rows, times) for name, key in self._cameras.items()},
                proprio=vectors(rows, self._states, files.data) if self._states else None,
                environment_state=vectors(rows, simulated, files.data) if simulated else None,
                actions=vectors(rows, self._actions, files.data),
                instruction=self._instruction(rows, files),
                expert_drove=rows[EXPERT_DROVE].to_numpy() if EXPERT_DROVE in rows.column_names else None,
                metadata=files.metadata,
                proprio_names=names_of(self._features, self._states),
                action_names=names_of(self._features, self._actions),
            )

    def metadata(self, index: int) -> Mapping[str, Any]:
        return self._episodes[index].metadata

    def name(self, index: int) -> str:
        return str(self._episodes[index].number)

    def _rows(self, files: EpisodeFiles) -> pa.Table:
        """Read the rows of an episode: the columns that are needed, and those optional ones that the file has."""
        needed = [*self._actions, *self._states]
        needed += [key for key in self._cameras.values() if self._features[key]["dtype"] == "image"]
        optional = (*ENVIRONMENT_STATES, EXPERT_DROVE, "timestamp", "task_index")
        try:
            columns = pq.read_schema(files.data).names
            if absent := [key for key in needed if key not in columns]:
                raise DatasetError(f"{files.data} has no column '{absent[0]}'", hint=COPY_AGAIN)
            chosen = list(dict.fromkeys([*needed, *(key for key in optional if key in columns)]))
            filters = None if files.has_own_file else [("episode_index", "=", files.number)]
            rows = pq.read_table(files.data, columns=chosen, filters=filters)
        except FileNotFoundError as error:
            raise DatasetError(f"{files.data} is missing", hint=COPY_AGAIN) from error
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{files.data} is damaged or incomplete ({error})", hint=COPY_AGAIN) from error
        if not len(rows):
            raise DatasetError(f"{files.data} has no row of the episode", hint=COPY_AGAIN)
        return rows

    def _times(self, rows: pa.Table, files: EpisodeFiles) -> Float64[np.ndarray, " length"]:
        """Return the time of each row [s]; evenly spaced if the file has no timestamps."""
        if "timestamp" not in rows.column_names:
            return np.arange(len(rows)) / self._fps
        times = vectors(rows, ("timestamp",), files.data)[:, 0].astype(np.float64)
        if len(not_later := np.flatnonzero(~(np.diff(times, prepend=-np.inf) > 0))):
            raise DatasetError(
                f"{files.data}: row {not_later[0]} of the episode has the timestamp {times[not_later[0]]:g}, which is"
                " not after the one before",
                hint="fix the timestamps, or remove the column: then the rate gives the times",
            )
        return times

    def _instruction(self, rows: pa.Table, files: EpisodeFiles) -> str:
        """Return the task of the first timestep, or the first listed one if the rows name none."""
        if "task_index" not in rows.column_names or not self._tasks:
            return files.task
        (number,) = vectors(rows.slice(0, 1), ("task_index",), files.data)[0]
        if number not in self._tasks and not files.task:
            raise DatasetError(
                f"{files.data}: row 0 of the episode has task {number:g}, which the file of tasks lacks",
                hint=f"available: {', '.join(map(str, sorted(self._tasks)))}",
            )
        return self._tasks.get(int(number), files.task)

    def _images_of(
        self, key: str, files: EpisodeFiles, rows: pa.Table, times: Float64[np.ndarray, " length"]
    ) -> UInt8[np.ndarray, "length height width 3"]:
        if self._features[key]["dtype"] == "video":
            path, start = files.videos[key]
            return read_frames(path, start + times, self._fps)
        return decode_images(rows[key].to_pylist(), f"{files.data}: {key}", self._image_file)

    def _image_file(self, cell: Any) -> bytes:
        """Return the content of an image file, which is in the cell or at the path in it."""
        parts = {"bytes": cell} if isinstance(cell, bytes) else cell or {}
        if content := parts.get("bytes"):
            return content
        path = self._folder / str(parts.get("path") or "")
        if path == self._folder:
            raise DatasetError("the image is missing", hint=COPY_AGAIN)
        if not path.is_file():
            raise DatasetError(f"{path} is missing", hint=COPY_AGAIN)
        return path.read_bytes()

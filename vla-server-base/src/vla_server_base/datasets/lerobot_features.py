"""An episode as LeRobot features: their descriptions in `meta/info.json`, and their columns in parquet."""

import io
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped, UInt8
from PIL import Image as PillowImage

from vla_server_base.datasets.episode import RecordedEpisode
from vla_server_base.datasets.keys import IMAGES
from vla_server_base.datasets.lerobot import ACTION, ENVIRONMENT_STATE, EXPERT_DROVE, STATE
from vla_server_base.datasets.video import CODEC_NAME, PIXELS
from vla_server_base.errors import DatasetError

CameraForm = Literal["video", "image"]
FeatureArrays = Mapping[str, Shaped[np.ndarray, "length ..."]]
"""Features by key: images, and numbers with one row per timestep."""

COUNTERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
ENCODED_IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def recorded_arrays(episode: RecordedEpisode) -> dict[str, np.ndarray]:
    """Return the recorded features by their keys."""
    arrays = {f"{IMAGES}{name}": np.asarray(frames) for name, frames in episode.images.items()}
    if episode.proprio is not None:
        arrays[STATE] = episode.proprio
    if episode.environment_state is not None:
        arrays[ENVIRONMENT_STATE] = episode.environment_state
    arrays[ACTION] = episode.actions
    if episode.expert_drove is not None:
        arrays[EXPERT_DROVE] = episode.expert_drove
    return arrays


def counted_arrays(episode: int, first_frame: int, length: int, task: int, fps: int) -> dict[str, np.ndarray]:
    """Return the counters that LeRobot adds; the episode starts at frame `first_frame` of the dataset."""
    frame = np.arange(length)
    return {
        "timestamp": (frame / fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(length, episode),
        "index": first_frame + frame,
        "task_index": np.full(length, task),
    }


def names_of_numbers(episode: RecordedEpisode) -> dict[str, tuple[str, ...]]:
    """Return the names of the numbers of features, by their keys; empty if they are unknown."""
    return {STATE: episode.proprio_names, ACTION: episode.action_names}


def described(
    arrays: FeatureArrays, names: Mapping[str, tuple[str, ...]], cameras: CameraForm, fps: int
) -> dict[str, Any]:
    """Describe features as `meta/info.json` does, with the `names` of their numbers.

    Raises:
        DatasetError: images have odd sides, which video does not support.
    """
    return {
        key: _camera(values.shape[1:], cameras, fps) if values.ndim == 4 else _numbers(values, names.get(key, ()))
        for key, values in arrays.items()
    }


def described_counters() -> dict[str, Any]:
    """Describe the counters that LeRobot adds."""
    return {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in COUNTERS.items()}


def _numbers(values: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    return {"dtype": values.dtype.name, "shape": list(values.shape[1:]) or [1], "names": list(names) or None}


def _camera(shape: tuple[int, ...], cameras: CameraForm, fps: int) -> dict[str, Any]:
    height, width, _ = shape
    feature = {"dtype": cameras, "shape": list(shape), "names": ["height", "width", "channels"]}
    if cameras == "image":
        return feature
    if height % 2 or width % 2:
        raise DatasetError(
            f"video: expected sides of an even number of pixels, got {width}x{height}",
            hint='store images instead of video: --lossless, or LeRobotWriter(cameras="image")',
        )
    info = {
        "video.height": height,
        "video.width": width,
        "video.codec": CODEC_NAME,
        "video.pix_fmt": PIXELS,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
        "is_depth_map": False,
    }
    return {**feature, "info": info}


def column(values: np.ndarray) -> pa.Array:
    """Return a column: images as PNG, numbers as they are, vectors of several numbers as lists."""
    if values.ndim == 4:
        return pa.array([{"bytes": _png(frame), "path": None} for frame in values], ENCODED_IMAGE)
    if values.ndim == 1 or values.shape[1] == 1:
        return pa.array(values.reshape(len(values)))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _png(frame: UInt8[np.ndarray, "height width 3"]) -> bytes:
    content = io.BytesIO()
    # On rendered images of 128x128, level 1 takes a third of the default's time, for files that are 5 % larger.
    PillowImage.fromarray(frame).save(content, "PNG", compress_level=1)
    return content.getvalue()


def tasks_table(tasks: Mapping[str, int]) -> pa.Table:
    """Return the instructions as a data frame with them as its index, which is how LeRobot reads them."""
    table = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), "task": pa.array(tasks)})
    columns = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
    frame = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored, "metadata": None}
            for name, kind, stored in columns
        ],
    }
    return table.replace_schema_metadata({"pandas": json.dumps(frame)})

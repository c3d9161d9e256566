"""The features of a LeRobot dataset: which are cameras, which depth, and parquet columns as arrays."""

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from vla_server_base.errors import DatasetError


def is_camera(feature: Mapping[str, Any]) -> bool:
    """Say whether a feature is a camera's images or video."""
    return feature.get("dtype") in ("video", "image")


def is_depth(key: str, feature: Mapping[str, Any]) -> bool:
    """Say whether a camera measures depth, which LeRobot has marked in several ways."""
    infos = (feature.get("info"), feature.get("video_info"))
    marks = [feature, *(info for info in infos if isinstance(info, Mapping))]
    names, shape = feature.get("names") or [], feature.get("shape") or []
    axes = names.values() if isinstance(names, Mapping) else names
    has_one_channel = len(shape) == 3 and 1 in (shape[0], shape[-1])
    return (
        any(mark.get("is_depth_map") or mark.get("video.is_depth_map") for mark in marks)
        or any(str(mark.get("video.pix_fmt", "")).startswith(("gray1", "gray9", "grayf")) for mark in marks)
        or any("depth" in str(name).lower() for name in axes)
        or (has_one_channel and "depth" in key.lower())
    )


def names_of(features: Mapping[str, Any], keys: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the numbers of some features in a row; none if one of the features has no list of them."""
    lists = [features[key].get("names") for key in keys]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        return ()
    sizes = [int(np.prod(features[key].get("shape") or [0])) for key in keys]
    return tuple(chain(*lists)) if [len(names) for names in lists] == sizes else ()


def vectors(rows: pa.Table, keys: Iterable[str], path: Path) -> Float32[np.ndarray, "length dim"]:
    """Return columns of lists or numbers, concatenated along the second axis.

    Raises:
        DatasetError: rows of a column have different lengths.
    """
    return np.concatenate([_column(rows[key].to_pylist(), key, path) for key in keys], axis=1)


def _column(values: list[Any], key: str, path: Path) -> Float32[np.ndarray, "length dim"]:
    try:
        return np.array(values, np.float32).reshape(len(values), -1)
    except (TypeError, ValueError) as error:
        row = next((row for row, value in enumerate(values) if np.shape(value) != np.shape(values[0])), 0)
        raise DatasetError(
            f"{path}: {key} in row {row} of the episode: expected the same number of values in every row,"
            f" got {str(values[row])[:80]}",
            hint="fix the row, or drop the episode",
        ) from error

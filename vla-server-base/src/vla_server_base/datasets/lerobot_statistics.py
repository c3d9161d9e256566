"""Statistics as LeRobot stores them: per feature, of each episode and of all.

Follows `compute_stats.py` of huggingface/lerobot, but over all frames instead of a sample, and with the quantiles of
all numbers. There, quantiles of all are the means of the episodes', here only those of images: where episodes differ,
as motions to the left and to the right do, most numbers are far outside of such means.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Shaped
from pyarrow import compute

FeatureStatistics = Mapping[str, Float64[np.ndarray, "..."]]
"""`min`, `max`, `mean`, `std` and `QUANTILES` by dimension, and `count`, of timesteps."""
Statistics = Mapping[str, FeatureStatistics]

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def episode_statistics(features: Mapping[str, Shaped[np.ndarray, "length ..."]]) -> dict[str, FeatureStatistics]:
    """Return the statistics of one episode; those of images are per channel."""
    return {key: _of_images(values) if values.ndim == 4 else _of_numbers(values) for key, values in features.items()}


def merged(parts: Sequence[Statistics]) -> dict[str, FeatureStatistics]:
    """Return the statistics of all episodes from those of parts."""
    return {key: _merged([part[key] for part in parts]) for key in parts[0]}


def with_quantiles(statistics: Statistics, data: Path) -> dict[str, FeatureStatistics]:
    """Return statistics with the quantiles of all numbers in a folder of parquet files."""
    columns = set(pq.read_schema(next(data.rglob("*.parquet"))).names)
    keys = [key for key, values in statistics.items() if values["mean"].ndim == 1 and key in columns]
    rows = pq.read_table(data, columns=keys)
    return {**statistics, **{key: {**statistics[key], **_quantiles(_numbers(rows[key]))} for key in keys}}


def _numbers(column: pa.ChunkedArray) -> Shaped[np.ndarray, "length dim"]:
    flat = compute.call_function("list_flatten", [column]) if pa.types.is_nested(column.type) else column
    return flat.to_numpy().reshape(len(column), -1)


def _quantiles(values: Shaped[np.ndarray, "samples dim"]) -> FeatureStatistics:
    levels = np.quantile(values.astype(np.float64), [*QUANTILES.values()], axis=0)
    return dict(zip(QUANTILES, levels, strict=True))


def _of_numbers(values: Shaped[np.ndarray, "length *dim"]) -> FeatureStatistics:
    return _summary(values.reshape(len(values), -1).astype(np.float64), count=len(values))


def _of_images(frames: Shaped[np.ndarray, "length height width 3"]) -> FeatureStatistics:
    """Return statistics of channels from 0 to 1, shaped (3, 1, 1); histograms need no copy of the frames."""
    levels = np.arange(256) / 255.0
    by_channel = []
    for channel in range(3):
        shares = np.bincount(frames[..., channel].reshape(-1), minlength=256) / frames[..., channel].size
        mean, present = shares @ levels, levels[shares > 0]
        quantiles = levels[np.searchsorted(np.cumsum(shares), [*QUANTILES.values()])]
        by_channel.append((present[0], present[-1], mean, np.sqrt(shares @ (levels - mean) ** 2), *quantiles))
    by_name = zip(("min", "max", "mean", "std", *QUANTILES), np.transpose(by_channel), strict=True)
    return {**{name: values.reshape(3, 1, 1) for name, values in by_name}, "count": np.array([len(frames)], np.float64)}


def _summary(values: Float64[np.ndarray, "samples dim"], count: int) -> FeatureStatistics:
    return {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([count], np.float64),
        **_quantiles(values),
    }


def _merged(parts: list[FeatureStatistics]) -> FeatureStatistics:
    known = [name for name in parts[0] if all(name in part for part in parts)]  # Others' data may lack quantiles.
    stacked = {name: np.stack([part[name] for part in parts]) for name in known}
    counts = stacked["count"].reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    total = counts.sum()
    means = {name: (counts * stacked[name]).sum(axis=0) / total for name in ("mean", *QUANTILES) if name in stacked}
    mean = means["mean"]
    variance = (counts * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(axis=0) / total
    return {
        "min": stacked["min"].min(axis=0),
        "max": stacked["max"].max(axis=0),
        "std": np.sqrt(variance),
        "count": stacked["count"].sum(axis=0),
        **means,
    }

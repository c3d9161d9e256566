"""Whether a checkpoint's parameters are the model's, and finite."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from octo_service.errors import CheckpointError


def check_params(params: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Check that parameters (arrays, or their shapes) are those that the model of config.json has.

    Raises:
        CheckpointError: naming the first few that are missing, unknown, or of another shape, and how many.
    """
    shapes = {path: value if isinstance(value, tuple) else np.shape(value) for path, value in params.items()}
    reshaped = [path for path in expected if path in shapes and shapes[path] != tuple(expected[path])]
    faults = {
        "missing": [path for path in expected if path not in shapes],
        "unknown to the model": [path for path in shapes if path not in expected],
        "of another shape": [f"{path} {shapes[path]} instead of {tuple(expected[path])}" for path in reshaped],
    }
    listed = [f"{len(paths)} {fault} ({_first_few(paths)})" for fault, paths in faults.items() if paths]
    if listed:
        raise CheckpointError(
            f"the checkpoint's parameters do not fit its config.json: {'; '.join(listed)}",
            hint="take config.json and parameters from the same training run",
        )


def check_finite(params: Mapping[str, np.ndarray]) -> None:
    """Check that every parameter is a number.

    Raises:
        CheckpointError: naming the first few that are not.
    """
    # A sum shows whether one of its terms is not finite, at the speed of memory; it may overflow by itself.
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = [path for path, leaf in params.items() if not np.isfinite(np.sum(leaf, dtype=np.float32))]
        damaged = [path for path in suspects if not np.isfinite(params[path].astype(np.float32)).all()]
    if damaged:
        raise CheckpointError(
            f"{len(damaged)} of the checkpoint's parameters hold numbers that are not finite ({_first_few(damaged)}): "
            "its training diverged, or the file is damaged",
            hint="take an earlier step, or copy or download the checkpoint again",
        )


def _first_few(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")

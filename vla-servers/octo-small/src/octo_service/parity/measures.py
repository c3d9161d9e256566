"""What a comparison is, and how a difference is measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One recorded quantity and this model's largest absolute difference from it."""

    golden: str
    case: str
    quantity: str
    max_error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.max_error <= self.tolerance


def largest(difference: Any) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(np.asarray(difference)).max())


def num_different(found: Any, expected: Any) -> int:
    """Count the entries that are not equal."""
    return int((np.asarray(found) != np.asarray(expected)).sum())


def spread(statistics: Mapping[str, Any]) -> np.ndarray:
    """Return the size of each dimension's un-normalized unit: its deviation, or 1 if it was not normalized."""
    return np.where(statistics.get("mask", True), statistics["std"], 1.0)

"""Numbers as the JSON of a glTF file has them, and the places of nodes."""

from typing import Any

import numpy as np

DECIMALS = 7
"""Of what is written: about what the numbers of 32 bits have that a viewer computes with."""


def number(value: Any) -> float:
    """Return a number of a model, rounded."""
    return round(float(value), DECIMALS)


def numbers(values: np.ndarray) -> list[float]:
    """Return the numbers of a vector, rounded."""
    return [number(value) for value in values.tolist()]


def pose(position: np.ndarray, quaternion: np.ndarray) -> dict[str, list[float]]:
    """Return a node's place [m], and its rotation, which is x y z w in glTF and w x y z in MuJoCo."""
    return {"translation": numbers(position), "rotation": numbers(quaternion[[1, 2, 3, 0]])}

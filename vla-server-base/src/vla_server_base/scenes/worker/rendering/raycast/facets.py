"""Faces as OpenGL lights them: at their corners, blended in between."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from vla_server_base.scenes.worker.rendering.raycast.spots import Vectors

Weights = Float32[np.ndarray, " points"]


@dataclass(frozen=True, kw_only=True)
class Corner:
    """One corner of each face, in the world's frame, and how much it counts at each point."""

    points: Float32[np.ndarray, "xyz runs"]
    normals: Float32[np.ndarray, "xyz runs"]
    weights: Weights


@dataclass(frozen=True, kw_only=True)
class Facets:
    """The faces that some points lie on. Neighbours among the points that share one are a run, and have it once."""

    runs: Int[np.ndarray, " points"]
    """The run that each point is of."""
    firsts: Int[np.ndarray, " runs"]
    """The first point of each run."""
    corners: list[Corner]


def find_runs(*parts: np.ndarray) -> tuple[Int[np.ndarray, " points"], Int[np.ndarray, " runs"]]:
    """Return the run of each place, and the first place of each run, in which no part changes."""
    changes = np.ones(len(parts[0]), bool)
    changes[1:] = np.any([part[1:] != part[:-1] for part in parts], axis=0)
    return np.cumsum(changes) - 1, np.flatnonzero(changes)


def to_world(turns: Float32[np.ndarray, "world own points"], vectors: Vectors) -> Vectors:
    """Turn vectors of geoms' frames, given the geoms' rotations."""
    return turns[:, 0] * vectors[0] + turns[:, 1] * vectors[1] + turns[:, 2] * vectors[2]

"""What pixels see: points, and how far it is from each to what the next pixels see."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float32, Int

Vectors = Float32[np.ndarray, "xyz points"]


@dataclass(frozen=True, kw_only=True)
class Spots:
    """Points of surfaces, and the way on the same surface to the next pixel along the row and along the column."""

    points: Vectors
    along_row: Vectors
    along_column: Vectors

    def take(self, which: Int[np.ndarray, " some"]) -> "Spots":
        """Return some of them."""
        return Spots(
            points=self.points.take(which, axis=1),
            along_row=self.along_row.take(which, axis=1),
            along_column=self.along_column.take(which, axis=1),
        )

    def beside(self) -> tuple[Vectors, Vectors, Vectors]:
        """Return the points, those of the next pixels in their rows, and those in their columns."""
        return self.points, self.points + self.along_row, self.points + self.along_column

    def in_frames(self, data: mujoco.MjData, geoms: Int[np.ndarray, " points"]) -> "Spots":
        """Return them as they are in the frames of geoms."""
        turns = geom_turns(data, geoms)
        positions = geom_positions(data, geoms)
        point, along_row, along_column = (
            along[0] * turns[0] + along[1] * turns[1] + along[2] * turns[2]
            for along in (self.points - positions, self.along_row, self.along_column)
        )
        return Spots(points=point, along_row=along_row, along_column=along_column)


def geom_turns(data: mujoco.MjData, geoms: Int[np.ndarray, " points"]) -> Float32[np.ndarray, "world own points"]:
    """Return the rotations of geoms: world from own."""
    return np.ascontiguousarray(data.geom_xmat.T, np.float32).take(geoms, axis=1).reshape(3, 3, -1)


def geom_positions(data: mujoco.MjData, geoms: Int[np.ndarray, " points"]) -> Vectors:
    """Return where geoms are in the world."""
    return np.ascontiguousarray(data.geom_xpos.T, np.float32).take(geoms, axis=1)

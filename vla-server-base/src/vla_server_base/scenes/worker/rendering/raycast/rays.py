"""A camera's rays, one for each pixel of its image."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float32, Float64, Int

from vla_server_base.scenes.worker.rendering.raycast.shading import dot
from vla_server_base.scenes.worker.rendering.raycast.spots import Spots

Vector = Float64[np.ndarray, " xyz"]
Vectors = Float64[np.ndarray, "xyz rays"]


@dataclass(frozen=True, kw_only=True)
class Rays:
    """One ray for each pixel, row by row from the top left; `depths` is the depth of a unit of length.

    `along_row` and `along_column` lead from a pixel to the next: at a depth of 1 where all rays share their origin.
    """

    origins: Float64[np.ndarray, "xyz rays"]
    directions: Float64[np.ndarray, "xyz rays"]
    depths: Float64[np.ndarray, " rays"]
    along_row: Float64[np.ndarray, " xyz"]
    along_column: Float64[np.ndarray, " xyz"]
    eye: Float64[np.ndarray, " xyz"]
    share_origin: bool

    def ends(
        self,
        which: Int[np.ndarray, " some"],
        distances: Float64[np.ndarray, " some"],
        normals: Float32[np.ndarray, "xyz some"],
    ) -> Spots:
        """Return where some rays meet surfaces, at some distances."""
        directions = self.directions.astype(np.float32).take(which, axis=1)
        # No pixel sees a surface from nearer its edge than this.
        slant = np.minimum(dot(normals, directions), np.float32(-1e-4))
        scale = distances * self.depths[which] if self.share_origin else np.ones(len(which))
        scale, distances = scale.astype(np.float32), distances.astype(np.float32)

        def to_next(step: Float64[np.ndarray, " xyz"]) -> Float32[np.ndarray, "xyz some"]:
            across = step.astype(np.float32)[:, None] * scale
            return across - directions * (dot(normals, across) / slant)

        return Spots(
            points=self.origins.astype(np.float32).take(which, axis=1) + distances * directions,
            along_row=to_next(self.along_row),
            along_column=to_next(self.along_column),
        )

    def infinitely_far(self, which: Int[np.ndarray, " some"]) -> Spots:
        """Return where some rays lead, as directions."""
        depths = self.depths[which].astype(np.float32) if self.share_origin else np.zeros(len(which), np.float32)
        along_row, along_column = (
            step.astype(np.float32)[:, None] * depths for step in (self.along_row, self.along_column)
        )
        directions = self.directions.take(which, axis=1).astype(np.float32)
        return Spots(points=directions, along_row=along_row, along_column=along_column)


def camera_rays(scene: mujoco.MjvScene, height: int, width: int, rows: slice) -> Rays:
    """Return the rays of some rows of an image.

    Follows `setView` of MuJoCo's render_gl3.c: the frustum's width comes from the image if not given.
    """
    left, right = scene.camera
    centre = (left.frustum_center + right.frustum_center) / 2
    tall = left.frustum_top - left.frustum_bottom
    half_width = left.frustum_width or tall * width / height / 2
    across = centre + half_width * ((np.arange(width) + 0.5) / width * 2 - 1)
    up = left.frustum_top - tall * (np.arange(height)[rows] + 0.5) / height
    forward, upward = left.forward.astype(float), left.up.astype(float)
    rightward = np.cross(forward, upward)
    eye = (left.pos + right.pos).astype(float) / 2
    beside = (upward[:, None, None] * up[:, None] + rightward[:, None, None] * across).reshape(3, -1)
    steps = rightward * (2 * half_width / width), -upward * (tall / height)
    if left.orthographic:
        return _parallel_rays(eye, forward, beside, steps)
    return _rays_from(eye, forward, beside, steps, left.frustum_near)


def _parallel_rays(eye: Vector, forward: Vector, beside: Vectors, steps: tuple[Vector, Vector]) -> Rays:
    return Rays(
        origins=eye[:, None] + beside,
        directions=np.broadcast_to(forward[:, None], beside.shape),
        depths=np.ones(beside.shape[1]),
        along_row=steps[0],
        along_column=steps[1],
        eye=eye,
        share_origin=False,
    )


def _rays_from(eye: Vector, forward: Vector, beside: Vectors, steps: tuple[Vector, Vector], near: float) -> Rays:
    directions = beside + near * forward[:, None]
    depths = near / np.sqrt(dot(directions, directions))
    return Rays(
        origins=np.broadcast_to(eye[:, None], beside.shape),
        directions=directions * (depths / near),
        depths=depths,
        along_row=steps[0] / near,
        along_column=steps[1] / near,
        eye=eye,
        share_origin=True,
    )

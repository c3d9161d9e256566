"""A camera's rays, one for each pixel of its image."""
# pyright: reportAttributeAccessIssue=false
# (mujoco's names are in compiled modules, which pyright cannot read)

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float32, Float64, Int

from vla_server_base.scenes.worker.rendering.raycast.shading import dot
from vla_server_base.scenes.worker.rendering.raycast.spots import Spots


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
    position = (left.pos + right.pos).astype(float)[:, None] / 2
    beside = upward[:, None, None] * up[:, None] + rightward[:, None, None] * across
    beside = beside.reshape(3, -1)
    along_row, along_column = rightward * (2 * half_width / width), -upward * (tall / height)
    if left.orthographic:
        directions = np.broadcast_to(forward[:, None], beside.shape)
        return Rays(
            origins=position + beside,
            directions=directions,
            depths=np.ones(beside.shape[1]),
            along_row=along_row,
            along_column=along_column,
            eye=position[:, 0],
            share_origin=False,
        )
    directions = beside + left.frustum_near * forward[:, None]
    depths = left.frustum_near / np.sqrt(dot(directions, directions))
    return Rays(
        origins=np.broadcast_to(position, beside.shape),
        directions=directions * (depths / left.frustum_near),
        depths=depths,
        along_row=along_row / left.frustum_near,
        along_column=along_column / left.frustum_near,
        eye=position[:, 0],
        share_origin=True,
    )

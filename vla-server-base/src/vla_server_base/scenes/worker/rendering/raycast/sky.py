"""A scene's sky and the haze before its horizon, as `mjr_render` of MuJoCo's `render_gl3.c` draws them."""

from typing import final

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Float64

from vla_server_base.scenes.worker.rendering.raycast.spots import Spots
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import PLANE
from vla_server_base.scenes.worker.rendering.raycast.textures import Texture, read_texture
from vla_server_base.scenes.worker.rendering.raycast.texturing import sample_cube

RADIUS = 0.7
"""Of the cylinder that bears the sky, and half its height, as a part of how far the camera sees."""

Colours = Float32[np.ndarray, "rgb rays"]
Directions = Float64[np.ndarray, "xyz rays"]


@final
class Sky:
    """A cube map on a cylinder around the camera, which hides what is farther away."""

    def __init__(self, model: mujoco.MjModel, texture: Texture):
        self._texture = texture
        self._endless = (model.geom_type == PLANE) & (model.geom_size[:, :2] == 0).all(axis=1)
        self._plane: int | None = None
        self._haze, self._haze_rgb = float(model.vis.map.haze), model.vis.rgba.haze[:3].copy()

    def show(self, shown: Bool[np.ndarray, " geoms"]) -> None:
        """Set which geoms are drawn: the haze is over the first endless plane of these."""
        endless = self._endless & shown
        self._plane = int(np.argmax(endless)) if endless.any() else None

    def distances(self, directions: Directions, far: float) -> Float64[np.ndarray, " rays"]:
        """Return how far away the sky is."""
        x, y, z = directions
        return RADIUS * far / np.maximum(np.hypot(x, y), np.abs(z))

    def colours(self, pixels: Spots) -> Colours:
        """Return the sky's colours in the directions of some points seen from the origin."""
        # The sky's y is up, the world's is z.
        return sample_cube(self._texture, [np.stack([x, z, -y]) for x, y, z in pixels.beside()])

    def add_haze(
        self,
        colours: Colours,
        data: mujoco.MjData,
        eye: Float64[np.ndarray, " xyz"],
        directions: Directions,
        ends: Float64[np.ndarray, " rays"],
        far: float,
    ) -> None:
        """Blend the haze over an endless plane into colours of what is `ends` away.

        The haze is a truncated cone, widest at the height of the eye and narrowest on the plane, opaque in between.
        """
        if self._plane is None:
            return
        axes = data.geom_xmat[self._plane].reshape(3, 3)
        height = float((eye - data.geom_xpos[self._plane]) @ axes[:, 2]) / (RADIUS * far)
        down = -(axes[:, 2] @ directions)
        below = np.flatnonzero(down > 1e-9)
        if height <= 0 or not len(below):
            return
        down = down[below]
        aside = np.sqrt(np.maximum(1 - down**2, 1e-18))
        # 0 at the height of the eye, 1 on the plane.
        descent = down / (height * aside + self._haze * down)
        before = (1 - self._haze * descent) * RADIUS * far < ends[below] * aside
        seen = before & (descent < 1)
        below, rise = below[seen], 1 - descent[seen]
        alpha = _opacity(rise, self._haze).astype(np.float32)
        colours[:, below] += alpha * (self._haze_rgb[:, None] - colours[:, below])


def read_sky(model: mujoco.MjModel) -> Sky | None:
    """Return the first sky of a model, which is the one that is drawn."""
    for texture_id in np.flatnonzero(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)[:1].tolist():
        if (texture := read_texture(model, texture_id)) is not None:
            return Sky(model, texture)
    return None


def _opacity(rise: Float64[np.ndarray, " rays"], narrowing: float) -> Float64[np.ndarray, " rays"]:
    """Follow `haze` of MuJoCo's `render_context.c`: up to 1 at one height of the cone, from there down to 0."""
    angle = np.arctan2(1, narrowing)
    top = np.sqrt(0.5) * narrowing * np.sin(angle) / np.sin(0.75 * np.pi - angle)
    return np.where(rise < top, rise / max(top, 1e-9), (1 - rise) / max(1 - top, 1e-9))

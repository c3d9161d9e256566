"""Image augmentation: a random crop, then brightness, contrast, saturation and hue, in the reference's order.

Follows `augment_image` of dlimp and the ranges of octo's octo_pretrain_config.py. The reference draws everything
that befalls an image from one uniform number, so that a small crop is always a dark one; here draws are independent.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

Pixels = Float[Array, "*frames height width 3"]


class Jitter(NamedTuple):
    """What befalls the images of each sample of a batch, on the host or on the device."""

    box: Float32[Array | np.ndarray, "*batch 4"]
    """Top, left, bottom and right of the crop, 0 to 1."""
    brightness: Float32[Array | np.ndarray, "*batch"]
    contrast: Float32[Array | np.ndarray, "*batch"]
    saturation: Float32[Array | np.ndarray, "*batch"]
    hue: Float32[Array | np.ndarray, "*batch"]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The ranges to draw from, for one camera."""

    crop_area: tuple[float, float] = (0.8, 1.0)
    crop_ratio: tuple[float, float] = (0.9, 1.1)
    """Width over height, drawn by its logarithm."""
    brightness: float = 0.1
    """Added to all channels, at most this much of their range, up or down."""
    contrast: tuple[float, float] = (0.9, 1.1)
    saturation: tuple[float, float] = (0.9, 1.1)
    hue: float = 0.05
    """Of the way round the circle of hues, at most this much in either direction."""

    def draw(self, random: np.random.Generator, batch: int) -> Jitter:
        """Draw once for each sample: its window and its goal go through the same."""
        area = random.uniform(*self.crop_area, batch)
        narrowest, widest = self.crop_ratio
        ratio = np.exp(random.uniform(np.log(narrowest), np.log(widest), batch))
        height, width = np.minimum(np.sqrt(area / ratio), 1), np.minimum(np.sqrt(area * ratio), 1)
        top, left = random.random(batch) * (1 - height), random.random(batch) * (1 - width)
        drawn = Jitter(
            box=np.stack([top, left, top + height, left + width], axis=1),
            brightness=random.uniform(-self.brightness, self.brightness, batch),
            contrast=random.uniform(*self.contrast, batch),
            saturation=random.uniform(*self.saturation, batch),
            hue=random.uniform(-self.hue, self.hue, batch),
        )
        return Jitter(*(values.astype(np.float32) for values in drawn))


PRIMARY = Augmentation()
# A wrist camera keeps its frame: the gripper stands where it stands.
WRIST = Augmentation(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0))


def augment(
    images: UInt8[Array | np.ndarray, "batch *window height width 3"], jitter: Jitter
) -> UInt8[Array, "batch *window height width 3"]:
    """Augment every sample's images; to be compiled with what follows it. A black image stands for none there is.

    An absent goal must stay black: it is not to be passed here, or to be masked again afterwards.
    """
    return jax.vmap(_augment)(jnp.asarray(images), Jitter(*map(jnp.asarray, jitter)))


def _augment(images: Array, jitter: Jitter) -> Array:
    x = jnp.clip(_crop(images.astype(jnp.float32) / 255, jnp.asarray(jitter.box)), 0, 1)
    x = jnp.clip(x + jitter.brightness, 0, 1)
    mean = x.mean((-3, -2), keepdims=True)
    x = jnp.clip((x - mean) * jitter.contrast + mean, 0, 1)
    hue, saturation, value = _hsv_from_rgb(x)
    # One round trip for both: saturation leaves hue and value as they are.
    x = _rgb_from_hsv((hue + jitter.hue) % 1, jnp.clip(saturation * jitter.saturation, 0, 1), value)
    return jnp.clip(jnp.floor(x * 255.5), 0, 255).astype(jnp.uint8)


def _crop(x: Pixels, box: Float[Array, "4"]) -> Pixels:
    top, left, bottom, right = box
    rows, columns = _interpolation(x.shape[-3], top, bottom), _interpolation(x.shape[-2], left, right)
    return jnp.einsum("ih,...hwc,jw->...ijc", rows, x, columns, precision="highest")


def _interpolation(size: int, start: Array, stop: Array) -> Float[Array, "{size} {size}"]:
    """Return what each pixel gives to each of as many from `start` to `stop`, corners on corners, linearly."""
    positions = (start + (stop - start) * jnp.linspace(0, 1, size)) * (size - 1)
    return jnp.maximum(0, 1 - jnp.abs(jnp.arange(size) - positions[:, None]))


def _hsv_from_rgb(x: Pixels) -> tuple[Array, Array, Array]:
    red, green, blue = x[..., 0], x[..., 1], x[..., 2]
    value = x.max(-1)
    spread = value - x.min(-1)
    safe = jnp.where(spread > 0, spread, 1)
    sector = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    saturation = spread / jnp.where(value > 0, value, 1)
    return (sector / 6) % 1, saturation, value


def _rgb_from_hsv(hue: Array, saturation: Array, value: Array) -> Pixels:
    # Each channel falls from `value` as the hue turns away from its own third of the circle.
    distance = jnp.abs((hue[..., None] * 6 - jnp.array([0.0, 2.0, 4.0]) + 3) % 6 - 3)
    return value[..., None] * (1 - saturation[..., None] * jnp.clip(distance - 1, 0, 1))

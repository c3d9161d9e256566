"""A model's textures, filtered as OpenGL filters them: bilinear, between the two nearest mipmaps. Only numpy."""

from typing import final

import mujoco
import numpy as np
from jaxtyping import Float32, Int, UInt8

CUBE_FACES = 6

Coordinates = Float32[np.ndarray, "uv points"]
Samples = Float32[np.ndarray, "channels points"]


@final
class Texture:
    """Images of one size (one, or the six of a cube) with their mipmaps.

    Takes about 4/3 of what the images take, as OpenGL does.
    """

    def __init__(self, images: UInt8[np.ndarray, "images height width channels"], *, srgb: bool = False):
        self.num_images = len(images)
        levels = _mipmaps(images)
        sizes = [level.shape[1:3] for level in levels]
        self._heights, self._widths = np.array(sizes, np.int32).T.copy()
        starts = np.cumsum([0, *(len(images) * height * width for height, width in sizes)])
        self._starts = starts[:-1].astype(np.int64)
        texels = np.concatenate([level.reshape(-1, level.shape[-1]) for level in levels])
        # Row by row: else every look-up copies all of them.
        self._texels = np.ascontiguousarray(texels.T)
        self._decoded = _decoded(srgb)

    def sample(
        self,
        coordinates: Coordinates,
        along_row: Coordinates,
        along_column: Coordinates,
        images: Int[np.ndarray, " points"] | None = None,
    ) -> Samples:
        """Return the colours, in 0 to 1, at coordinates of which 0 to 1 spans an image, v downwards.

        `along_row` and `along_column` are the coordinates at the image's next pixels. One image repeats; of
        several, `images` says which, and they end in their outermost colours.
        """
        levels = self._levels(along_row - coordinates, along_column - coordinates)
        lower = levels.astype(np.int32)
        colours = self._bilinear(coordinates, lower, images)
        between = levels - lower
        mixed = np.flatnonzero(between > 0)
        if len(mixed):
            upper = self._bilinear(coordinates[:, mixed], lower[mixed] + 1, None if images is None else images[mixed])
            colours[:, mixed] += between[mixed] * (upper - colours[:, mixed])
        return colours

    def _levels(self, along_row: Coordinates, along_column: Coordinates) -> Float32[np.ndarray, " points"]:
        """Choose mipmaps so that a pixel spans about one texel: section 3.8.8 of OpenGL 1.5."""
        size = np.array([[self._widths[0]], [self._heights[0]]], np.float32)
        squared = np.maximum(((along_row * size) ** 2).sum(axis=0), ((along_column * size) ** 2).sum(axis=0))
        return np.clip(np.log2(np.maximum(squared, 1)) / 2, 0, len(self._starts) - 1).astype(np.float32)

    def _bilinear(
        self,
        coordinates: Coordinates,
        levels: Int[np.ndarray, " points"],
        images: Int[np.ndarray, " points"] | None,
    ) -> Samples:
        widths, heights = self._widths[levels], self._heights[levels]
        starts = self._starts[levels] if images is None else self._starts[levels] + images * widths * heights
        column, right, across = _neighbours(coordinates[0], widths, repeats=images is None)
        row, below, down = _neighbours(coordinates[1], heights, repeats=images is None)
        row, below = starts + row * widths, starts + below * widths
        top = self._fetch(row + column)
        top += across * (self._fetch(row + right) - top)
        bottom = self._fetch(below + column)
        bottom += across * (self._fetch(below + right) - bottom)
        top += down * (bottom - top)
        return top

    def _fetch(self, index: Int[np.ndarray, " points"]) -> Samples:
        return self._decoded[self._texels.take(index, axis=1)]


def read_texture(model: mujoco.MjModel, texture: int) -> Texture | None:
    """Return a texture of a model; None for what MuJoCo's renderer does not draw either, such as KTX."""
    height, width = int(model.tex_height[texture]), int(model.tex_width[texture])
    channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
    if channels < 3:
        return None
    pixels = model.tex_data[start : start + height * width * channels].reshape(height, width, channels)[..., :3]
    if model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_2D:
        srgb = model.tex_colorspace[texture] == mujoco.mjtColorSpace.mjCOLORSPACE_SRGB
        return Texture(pixels[None], srgb=bool(srgb))
    if height == width:
        return Texture(np.broadcast_to(pixels, (CUBE_FACES, *pixels.shape)))
    return Texture(pixels.reshape(CUBE_FACES, width, width, 3))


def _mipmaps(images: UInt8[np.ndarray, "images height width channels"]) -> list[np.ndarray]:
    levels = [images]
    while max(levels[-1].shape[1:3]) > 1:
        levels.append(halved(halved(levels[-1], 1), 2))
    return levels


def halved(images: UInt8[np.ndarray, "..."], axis: int) -> UInt8[np.ndarray, "..."]:
    """Blend texels along an axis, of which half as many remain."""
    size = images.shape[axis]
    half = size // 2
    if not half:
        return images
    place = (np.arange(half) + 0.5) * size / half - 0.5
    first = place.astype(int)
    shape = [half if each == axis else 1 for each in range(images.ndim)]
    # Of 256, so that all fits 16 bits.
    share = ((place - first) * 256).round().astype(np.uint16).reshape(shape)
    blended = images.take(first, axis=axis) * (256 - share) + images.take(first + 1, axis=axis) * share
    return ((blended + 128) >> 8).astype(np.uint8)


def _neighbours(
    coordinates: Float32[np.ndarray, " points"], sizes: Int[np.ndarray, " points"], *, repeats: bool
) -> tuple[Int[np.ndarray, " points"], Int[np.ndarray, " points"], Float32[np.ndarray, " points"]]:
    """Return the texels on both sides of coordinates, and how far they are from the first to the second."""
    if repeats:
        coordinates = coordinates - np.floor(coordinates)
    place = coordinates * sizes.astype(np.float32) - np.float32(0.5)
    first = np.floor(place)
    between = place - first
    first = first.astype(np.int32)
    if repeats:
        # From -1 up to the size, as the coordinates are from 0 to 1.
        return np.where(first < 0, first + sizes, first), np.where(first + 1 < sizes, first + 1, 0), between
    return np.clip(first, 0, sizes - 1), np.clip(first + 1, 0, sizes - 1), between


def _decoded(srgb: bool) -> Float32[np.ndarray, "256"]:
    """Return what each byte of a texture means."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    if srgb:
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return values

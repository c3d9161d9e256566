"""Resizing as the reference's data pipeline does it: separable, weights worked out once per pair of sizes.

Every filter here is linear in each axis, so an axis is one matrix: row i says what each input pixel gives to
output pixel i.
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

# Half-width of the lanczos kernel, in pixels of the coarser of the two images.
LANCZOS_RADIUS = 3
# Mean area of the random crops that the primary image was trained with (ResizeImageWrapper).
CROP_AREA = 0.9
# Output pixels that share one product: their inputs span little more than a kernel; the zeros are left out.
BAND = 32
# Multiplications up to which OpenBLAS keeps to the calling thread. Waking its others takes longer than the
# product, and up to 400 ms where the cores are busy, which they are in a server.
SINGLE_THREAD_PRODUCT = 2**18

Image = UInt8[np.ndarray, "height width 3"] | Float[np.ndarray, "height width 3"]


def resize_lanczos(image: Image, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Resize an RGB image of range 0 to 255 as tf.image.resize(method="lanczos3", antialias=True) does."""
    if image.dtype == np.uint8 and image.shape[:2] == (height, width):
        return image
    return _filtered(image, _lanczos_bands(image.shape[0], height), _lanczos_bands(image.shape[1], width))


def resize_and_crop(image: Image, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Resize by lanczos, then blow the central 90 % of the area up to the same size, bilinearly.

    Stands for the mean of the random crops in training, as the reference's `ResizeImageWrapper` does for its
    `augmented_keys`; values are rounded once, at the end.
    """
    return _filtered(image, _crop_bands(image.shape[0], height), _crop_bands(image.shape[1], width))


@dataclass(frozen=True, kw_only=True)
class _Band:
    """A run of output pixels and the run of input pixels that they are made of."""

    outputs: slice
    inputs: slice
    weights: Float32[np.ndarray, "outputs inputs"]


def _filtered(image: Image, rows: tuple[_Band, ...], columns: tuple[_Band, ...]) -> UInt8[np.ndarray, "_ _ 3"]:
    in_height, in_width, channels = image.shape
    height, width = rows[-1].outputs.stop, columns[-1].outputs.stop
    lines = image.astype(np.float32).reshape(in_height, in_width * channels)
    down = _apply(rows, lines).reshape(height, in_width, channels)
    lines = np.ascontiguousarray(down.transpose(1, 0, 2)).reshape(in_width, height * channels)
    across = _apply(columns, lines)
    np.clip(np.rint(across, out=across), 0, 255, out=across)
    return np.ascontiguousarray(across.astype(np.uint8).reshape(width, height, channels).transpose(1, 0, 2))


def _apply(bands: tuple[_Band, ...], lines: Float32[np.ndarray, "size rest"]) -> Float32[np.ndarray, "new_size rest"]:
    filtered = np.empty((bands[-1].outputs.stop, lines.shape[1]), np.float32)
    for band in bands:
        columns = max(1, SINGLE_THREAD_PRODUCT // band.weights.size)
        for start in range(0, lines.shape[1], columns):
            part = slice(start, start + columns)
            np.matmul(band.weights, lines[band.inputs, part], out=filtered[band.outputs, part])
    return filtered


@functools.lru_cache(maxsize=64)
def _lanczos_bands(size: int, new_size: int) -> tuple[_Band, ...]:
    return _in_bands(_lanczos_weights(size, new_size))


@functools.lru_cache(maxsize=64)
def _crop_bands(size: int, new_size: int) -> tuple[_Band, ...]:
    return _in_bands(_crop_weights(new_size) @ _lanczos_weights(size, new_size))


def _lanczos_weights(size: int, new_size: int) -> Float[np.ndarray, "{new_size} {size}"]:
    """Sample the kernel at pixel centres, stretched where the image shrinks, so that nothing aliases."""
    shrinking = max(size / new_size, 1.0)
    centres = (np.arange(new_size) + 0.5) * (size / new_size)
    distances = (np.arange(size) + 0.5 - centres[:, None]) / shrinking
    kernel = np.sinc(distances) * np.sinc(distances / LANCZOS_RADIUS) * (np.abs(distances) < LANCZOS_RADIUS)
    return kernel / kernel.sum(axis=1, keepdims=True)


def _crop_weights(size: int) -> Float[np.ndarray, "{size} {size}"]:
    """Interpolate linearly between two neighbours, corners on corners, as tf.image.crop_and_resize does."""
    side = np.sqrt(CROP_AREA)
    positions = np.linspace((1 - side) / 2, (1 + side) / 2, size) * (size - 1)
    return np.maximum(0, 1 - np.abs(np.arange(size) - positions[:, None]))


def _in_bands(weights: Float[np.ndarray, "new_size size"]) -> tuple[_Band, ...]:
    starts = range(0, len(weights), BAND)
    return tuple(_band(weights, slice(start, min(start + BAND, len(weights)))) for start in starts)


def _band(weights: Float[np.ndarray, "new_size size"], outputs: slice) -> _Band:
    (used,) = weights[outputs].any(axis=0).nonzero()
    inputs = slice(int(used[0]), int(used[-1]) + 1)
    return _Band(outputs=outputs, inputs=inputs, weights=weights[outputs, inputs].astype(np.float32))

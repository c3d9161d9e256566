"""Resizing as the reference's data pipeline does it: separable, weights worked out once per pair of sizes.

Every filter here is linear in each axis, so an axis is one matrix: row i says what each input pixel gives to
output pixel i. It is sparse: an output pixel is made of few inputs.
"""

import functools

import numpy as np
from jaxtyping import Float, UInt8
from scipy.sparse import csr_array, kron

# Half-width of the lanczos kernel, in pixels of the coarser of the two images.
LANCZOS_RADIUS = 3
# Mean area of the random crops that the primary image was trained with (ResizeImageWrapper).
CROP_AREA = 0.9

Image = UInt8[np.ndarray, "height width 3"] | Float[np.ndarray, "height width 3"]


def resize_lanczos(image: Image, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Resize an RGB image of range 0 to 255 as tf.image.resize(method="lanczos3", antialias=True) does."""
    if image.dtype == np.uint8 and image.shape[:2] == (height, width):
        return image
    return _filtered(image, *_lanczos(*image.shape[:2], height, width))


def resize_and_crop(image: Image, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Resize by lanczos, then blow the central 90 % of the area up to the same size, bilinearly.

    Stands for the mean of the random crops in training, as the reference's `ResizeImageWrapper` does for its
    `augmented_keys`; values are rounded once, at the end.
    """
    return _filtered(image, *_lanczos_and_crop(*image.shape[:2], height, width))


def _filtered(image: Image, down: csr_array, across: csr_array) -> UInt8[np.ndarray, "_ _ 3"]:
    lines = image.reshape(len(image), -1).astype(np.float32)
    columns = across @ np.ascontiguousarray((down @ lines).T)
    np.clip(np.rint(columns, out=columns), 0, 255, out=columns)
    filtered = np.ascontiguousarray(columns.astype(np.uint8).T)
    return filtered.reshape(len(filtered), -1, 3)


@functools.lru_cache(maxsize=64)
def _lanczos(height: int, width: int, new_height: int, new_width: int) -> tuple[csr_array, csr_array]:
    return _sparse(_lanczos_weights(height, new_height), _lanczos_weights(width, new_width))


@functools.lru_cache(maxsize=64)
def _lanczos_and_crop(height: int, width: int, new_height: int, new_width: int) -> tuple[csr_array, csr_array]:
    down = _crop_weights(new_height) @ _lanczos_weights(height, new_height)
    return _sparse(down, _crop_weights(new_width) @ _lanczos_weights(width, new_width))


def _sparse(down: csr_array, across: csr_array) -> tuple[csr_array, csr_array]:
    """Return what is applied to the pixels of each column, and to those of each row: there colours lie side by side."""
    every_colour = kron(across.astype(np.float32), np.eye(3, dtype=np.float32))
    return csr_array(down, dtype=np.float32), csr_array(every_colour)


def _lanczos_weights(size: int, new_size: int) -> csr_array:
    """Sample the kernel at pixel centres, stretched where the image shrinks, so that nothing aliases.

    Only where it is not 0: an image of a long side takes no longer than its pixels do.
    """
    shrinking = max(size / new_size, 1.0)
    centres = (np.arange(new_size) + 0.5) * (size / new_size)
    reach = int(np.ceil(LANCZOS_RADIUS * shrinking))
    inputs = np.floor(centres).astype(np.int64)[:, None] + np.arange(-reach - 1, reach + 1)
    distances = (inputs + 0.5 - centres[:, None]) / shrinking
    counts = (np.abs(distances) < LANCZOS_RADIUS) & (inputs >= 0) & (inputs < size)
    kernel = np.where(counts, np.sinc(distances) * np.sinc(distances / LANCZOS_RADIUS), 0.0)
    kernel /= kernel.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(new_size)[:, None], inputs.shape)
    return csr_array((kernel[counts], (rows[counts], inputs[counts])), shape=(new_size, size))


def _crop_weights(size: int) -> csr_array:
    """Interpolate linearly between two neighbours, corners on corners, as tf.image.crop_and_resize does."""
    side = np.sqrt(CROP_AREA)
    positions = np.linspace((1 - side) / 2, (1 + side) / 2, size) * (size - 1)
    return csr_array(np.maximum(0, 1 - np.abs(np.arange(size) - positions[:, None])))

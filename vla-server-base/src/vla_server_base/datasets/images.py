"""Recorded images, converted to the format that policies are trained on: RGB, 8 bits, channels last."""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image as PillowImage

from vla_server_base.datasets.error_context import error_context
from vla_server_base.errors import DatasetError

CHANNELS = (1, 3, 4)
# Rounding and interpolation exceed the ends of a range by up to one of 256 levels.
LEVEL = 1 / 255
EXPECTED = "use uint8 of shape (length, height, width, 3), or integers or floats of 0 to 255, or floats of 0 to 1"

DEEP_MODES = ("I", "F")
"""How Pillow's modes with more than 8 bits per channel begin."""


def rgb_images(value: Any) -> UInt8[np.ndarray, "length height width 3"]:
    """Return images, one per timestep; a view of `value` if it has the right format already.

    Accepts integers and floats of 0 to 255 and floats of 0 to 1; channels first or last; grey; an alpha channel, which
    is dropped.

    Raises:
        DatasetError: it is not an array of images, or the range of its numbers is ambiguous.
    """
    frames = np.asarray(value)
    if frames.dtype.kind not in "uif":
        raise DatasetError(f"images: expected numbers, got {frames.dtype}", hint=EXPECTED)
    frames = _channels_last(frames)
    if not frames.size or frames.dtype == np.uint8:
        return frames.astype(np.uint8, copy=False)
    scale = _scale(frames)
    images = np.empty(frames.shape, np.uint8)
    for image, frame in zip(images, frames, strict=True):
        image[:] = np.clip(np.rint(frame * scale), 0, 255)
    return images


def decode_image(content: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a JPEG or PNG, or another format that Pillow reads.

    Raises:
        DatasetError: it cannot be decoded, or has more than 8 bits per channel, as depth has.
    """
    try:
        image = PillowImage.open(io.BytesIO(content))
        if image.mode.startswith(DEEP_MODES):
            raise DatasetError("the image has more than 8 bits per channel, as depth has", hint="choose another camera")
        return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError) as error:
        raise DatasetError(f"the image cannot be decoded ({error})", hint="copy the recording again") from error


def decode_images(
    cells: Iterable[Any], key: str, content: Callable[[Any], bytes] = bytes
) -> UInt8[np.ndarray, "length height width 3"]:
    """Decode the images of a camera, one per timestep; `content` returns the file in a cell.

    Raises:
        DatasetError: one cannot be decoded, or their sizes differ.
    """
    images = []
    for timestep, cell in enumerate(cells):
        with error_context(f"{key} at timestep {timestep}"):
            images.append(decode_image(content(cell)))
    with error_context(key):
        return stack_images(images)


def stack_images(images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "length height width 3"]:
    """Stack images of one size.

    Raises:
        DatasetError: their sizes differ.
    """
    for number, image in enumerate(images):
        if image.shape != images[0].shape:
            size, first_size = (f"{shape[1]}x{shape[0]}" for shape in (image.shape, images[0].shape))
            raise DatasetError(
                f"image {number} is {size}, but the first is {first_size}", hint="record each camera at one size"
            )
    return np.stack(images)


def _channels_last(frames: np.ndarray) -> Shaped[np.ndarray, "length height width 3"]:
    shape = frames.shape
    if frames.ndim == 3:
        frames = frames[..., None]
    elif frames.ndim == 4 and shape[-1] not in CHANNELS and shape[1] in CHANNELS:
        frames = np.moveaxis(frames, 1, -1)
    if frames.ndim != 4 or frames.shape[-1] not in CHANNELS or not all(frames.shape[1:]):
        raise DatasetError(f"images: expected shape (length, height, width, 3), got {shape}", hint=EXPECTED)
    return np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames[..., :3]


def _scale(frames: Shaped[np.ndarray, "length height width 3"]) -> float:
    """Return the factor that makes the brightest possible number 255."""
    darkest, brightest = float(frames.min()), float(frames.max())
    if not np.isfinite([darkest, brightest]).all():
        timestep = int(np.argmin(np.isfinite(frames).all(axis=(1, 2, 3))))
        raise DatasetError(f"the image at timestep {timestep} has numbers that are not finite", hint=EXPECTED)
    is_integer = frames.dtype.kind in "ui"
    if not is_integer and darkest >= -LEVEL and brightest <= 1 + LEVEL:
        return 255.0
    # Floats whose brightest is between 1 and 2 can be of either range.
    if darkest >= (0 if is_integer else -1) and (is_integer or brightest >= 2) and brightest <= 256 - is_integer:
        return 1.0
    raise DatasetError(
        f"images of {frames.dtype} with numbers from {darkest:g} to {brightest:g} have no known range", hint=EXPECTED
    )

"""Pictures in the forms that recordings have, brought to the one that is trained on: RGB of 8 bits, colours last."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image as PillowImage

from vla_server_base.errors import DatasetError

COLOURS = (1, 3, 4)
# What rounding and interpolation put beyond the ends of a range: one of 256 levels.
LEVEL = 1 / 255
EXPECTED = (
    "give uint8 of shape (length, height, width, 3); integers and floats of 0 to 255 and floats of 0 to 1 will do"
)

DEEP_MODES = ("I", "F")
"""How Pillow's names of pictures begin that have more than 8 bits a number."""


def rgb_pictures(given: Any) -> UInt8[np.ndarray, "length height width 3"]:
    """Return pictures, one a timestep; a view of what is given where that is of this form already.

    Integers and floats of 0 to 255 and floats of 0 to 1 are taken, with colours last or first, grey, or with a fourth
    number, transparency, which is left out.

    Raises:
        DatasetError: they are no pictures, or it cannot be told what their numbers mean.
    """
    frames = np.asarray(given)
    if frames.dtype.kind not in "uif":
        raise DatasetError(f"pictures of {frames.dtype}", hint=EXPECTED)
    frames = _colours_last(frames)
    if not frames.size or frames.dtype == np.uint8:
        return frames.astype(np.uint8, copy=False)
    scale = _scale(frames)
    pictures = np.empty(frames.shape, np.uint8)
    for picture, frame in zip(pictures, frames, strict=True):
        picture[:] = np.clip(np.rint(frame * scale), 0, 255)
    return pictures


def _colours_last(frames: np.ndarray) -> Shaped[np.ndarray, "length height width 3"]:
    shape = frames.shape
    if frames.ndim == 3:
        frames = frames[..., None]
    elif frames.ndim == 4 and shape[-1] not in COLOURS and shape[1] in COLOURS:
        frames = np.moveaxis(frames, 1, -1)
    if frames.ndim != 4 or frames.shape[-1] not in COLOURS or not all(frames.shape[1:]):
        raise DatasetError(f"pictures of shape {shape}", hint=EXPECTED)
    return np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames[..., :3]


def _scale(frames: Shaped[np.ndarray, "length height width 3"]) -> float:
    """Return what makes 255 of the brightest that there may be."""
    darkest, brightest = float(frames.min()), float(frames.max())
    if not np.isfinite([darkest, brightest]).all():
        timestep = int(np.argmin(np.isfinite(frames).all(axis=(1, 2, 3))))
        raise DatasetError(f"the picture at timestep {timestep} has numbers that are not finite", hint=EXPECTED)
    is_integer = frames.dtype.kind in "ui"
    if not is_integer and darkest >= -LEVEL and brightest <= 1 + LEVEL:
        return 255.0
    # Floats of which the brightest lies between 1 and 2 may be of either range.
    if darkest >= (0 if is_integer else -1) and (is_integer or brightest >= 2) and brightest <= 256 - is_integer:
        return 1.0
    raise DatasetError(f"pictures of {frames.dtype} with numbers from {darkest:g} to {brightest:g}", hint=EXPECTED)


def decoded_picture(content: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Decode a JPEG or PNG, or what else Pillow knows.

    Raises:
        DatasetError: it cannot be, or it holds more than 8 bits a number, as depth does.
    """
    try:
        picture = PillowImage.open(io.BytesIO(content))
        if picture.mode.startswith(DEEP_MODES):
            raise DatasetError("it has more than 8 bits a number, as depth has", hint="name another camera")
        return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError) as error:
        raise DatasetError(f"it cannot be decoded ({error})", hint="copy the recording again") from error


def stacked(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "length height width 3"]:
    """Put pictures behind one another.

    Raises:
        DatasetError: they are of different sizes.
    """
    for number, picture in enumerate(pictures):
        if picture.shape != pictures[0].shape:
            sizes = " where the first is ".join(f"{p.shape[1]}x{p.shape[0]}" for p in (picture, pictures[0]))
            raise DatasetError(f"picture {number} is {sizes}", hint="record a camera's pictures at one size")
    return np.stack(pictures)

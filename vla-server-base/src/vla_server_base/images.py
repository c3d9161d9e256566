"""Pictures on the wire: encoded bytes and base64 to RGB arrays, and back. Not for the event loop."""

import base64
import io
import re

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from vla_server_base.contract import Image
from vla_server_base.errors import ImageError

_FORMATS = ("PNG", "JPEG", "WEBP")
_JPEG_QUALITY = 80
_PART_CHARS = 2**18
MAX_SIDE = 16_384
"""Pixels along one side of a picture: resizing costs by the side, and a file of 2 kB may be millions of pixels wide."""
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def decode_base64(text: str) -> bytes:
    """Return the bytes that `text` stands for; line breaks and a `data:` URL's head are allowed.

    Raises:
        ValueError: `text` holds anything else than base64.
    """
    head = _DATA_URL.match(text)
    payload = text[head.end() :] if head else text
    try:
        return _decode_base64(payload)
    except ValueError:
        return _decode_base64("".join(payload.split()))


def _decode_base64(payload: str) -> bytes:
    """Decode in parts: each holds the interpreter, 45 MB at once would stop the event loop for 0.2 s."""
    parts = (payload[start : start + _PART_CHARS] for start in range(0, len(payload), _PART_CHARS))
    return b"".join(base64.b64decode(part, validate=True) for part in parts)


def decode_image(text: str, field: str, max_pixels: int) -> Image:
    """Return the RGB picture that a request's `field` carries, upright as its EXIF says.

    Raises:
        ImageError: not base64, not PNG, JPEG or WebP, damaged, or of more than `max_pixels`.
    """
    try:
        encoded = decode_base64(text)
    except ValueError as error:
        raise ImageError(f"{field} is not base64", hint="send the picture's file as base64") from error
    return decode_picture(encoded, field, max_pixels)


def decode_picture(encoded: bytes, field: str, max_pixels: int) -> Image:
    """Return the RGB picture of a file's bytes, upright as its EXIF says.

    Raises:
        ImageError: not PNG, JPEG or WebP, damaged, or of more than `max_pixels`.
    """
    try:
        return _decode(encoded, field, max_pixels)
    except ImageError:
        raise
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise ImageError(f"{field} has too many pixels, at most {max_pixels} are taken here") from error
    except Exception as error:  # a stranger's bytes make the decoders raise nearly anything
        raise ImageError(
            f"{field} cannot be decoded ({len(encoded)} bytes)", hint="PNG, JPEG and WebP are read here"
        ) from error


def check_size(height: int, width: int, field: str, max_pixels: int) -> None:
    """Refuse what would take too long, or too much memory, to be made smaller.

    Raises:
        ImageError: saying what is taken.
    """
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            f"{field} is {width}x{height} pixels, at most {MAX_SIDE} along a side are taken here",
            hint="send a picture of usual proportions, such as 640x480",
        )
    if height * width > max_pixels:
        raise ImageError(
            f"{field} has {width}x{height} pixels, at most {max_pixels} are taken here",
            hint="send it smaller, policies see a few hundred pixels along a side; or raise VLA_MAX_IMAGE_PIXELS",
        )


def encode_png(image: Image) -> str:
    """Return a picture as base64 PNG."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def encode_jpeg(image: Image) -> str:
    """Return a picture as base64 JPEG: a tenth of the PNG, for people to look at."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _decode(encoded: bytes, field: str, max_pixels: int) -> Image:
    # Opening reads the head only, so that size and depth are known before anything is decoded.
    with PillowImage.open(io.BytesIO(encoded), formats=_FORMATS) as picture:
        check_size(picture.height, picture.width, field, max_pixels)
        if picture.mode[0] in "IF":
            raise ImageError(f"{field} has more than 8 bits per channel", hint="send 8-bit RGB")
        ImageOps.exif_transpose(picture, in_place=True)
        # A palette's transparency is lost quietly only by way of RGBA.
        pixels = picture.convert("RGBA") if picture.mode == "P" else picture
        return np.asarray(pixels if pixels.mode == "RGB" else pixels.convert("RGB"))

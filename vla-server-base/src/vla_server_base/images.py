"""Images in requests and replies: encoded bytes and base64 to RGB arrays, and back. Would block the event loop."""

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
"""Pixels along one side: resizing costs more for longer sides, and a file of 2 kB may be millions of pixels wide."""
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def decode_base64(text: str) -> bytes:
    """Return the decoded bytes of `text`, which may have line breaks and start as a `data:` URL.

    Raises:
        ValueError: `text` is not base64.
    """
    head = _DATA_URL.match(text)
    payload = text[head.end() :] if head else text
    try:
        return _decode_base64(payload)
    except ValueError:
        return _decode_base64("".join(payload.split()))


def _decode_base64(payload: str) -> bytes:
    """Decode in parts: each part holds the GIL, and 45 MB at once would block the event loop for 0.2 s."""
    parts = (payload[start : start + _PART_CHARS] for start in range(0, len(payload), _PART_CHARS))
    return b"".join(base64.b64decode(part, validate=True) for part in parts)


def decode_image(text: str, field: str, max_pixels: int) -> Image:
    """Return the RGB image in the field `field` of a request, rotated as its EXIF says.

    Raises:
        ImageError: not base64, not PNG, JPEG or WebP, damaged, or of more than `max_pixels`.
    """
    try:
        encoded = decode_base64(text)
    except ValueError as error:
        raise ImageError(f"{field} is not base64", hint="send the image file as base64") from error
    return decode_picture(encoded, field, max_pixels)


def decode_picture(encoded: bytes, field: str, max_pixels: int) -> Image:
    """Return the RGB image of a file's bytes, rotated as its EXIF says.

    Raises:
        ImageError: not PNG, JPEG or WebP, damaged, or of more than `max_pixels`.
    """
    try:
        return _decode(encoded, field, max_pixels)
    except ImageError:
        raise
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise ImageError(
            f"{field} has too many pixels, at most {max_pixels} are allowed", hint="send a smaller image"
        ) from error
    except Exception as error:  # the decoders raise nearly anything on damaged bytes
        raise ImageError(
            f"{field} cannot be decoded ({len(encoded)} bytes)", hint="PNG, JPEG and WebP are read here"
        ) from error


def check_size(height: int, width: int, field: str, max_pixels: int) -> None:
    """Refuse an image whose resizing would take too long or too much memory.

    Raises:
        ImageError: the image is larger than the limits.
    """
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            f"{field} has {width}x{height} pixels, at most {MAX_SIDE} along a side are allowed",
            hint="send an image of usual proportions, such as 640x480",
        )
    if height * width > max_pixels:
        raise ImageError(
            f"{field} has {width}x{height} pixels, at most {max_pixels} are allowed",
            hint="send a smaller image, policies use a few hundred pixels along a side; or raise VLA_MAX_IMAGE_PIXELS",
        )


def encode_png(image: Image) -> str:
    """Return an image as base64 PNG."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def encode_jpeg(image: Image) -> str:
    """Return an image as base64 JPEG, a tenth of the size of a PNG, for people to look at."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _decode(encoded: bytes, field: str, max_pixels: int) -> Image:
    # `open` reads only the header, so that size and depth are checked before decoding.
    with PillowImage.open(io.BytesIO(encoded), formats=_FORMATS) as image:
        check_size(image.height, image.width, field, max_pixels)
        if image.mode[0] in "IF":
            raise ImageError(f"{field} has more than 8 bits per channel", hint="send 8-bit RGB")
        ImageOps.exif_transpose(image, in_place=True)
        # Pillow warns if the transparency of a palette is dropped without converting to RGBA first.
        pixels = image.convert("RGBA") if image.mode == "P" else image
        return np.asarray(pixels if pixels.mode == "RGB" else pixels.convert("RGB"))

"""What a request brings to a policy: images, from base64 to RGB arrays and back, and what it must not lack.

Images are not for the event loop.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps

from vla_server_base.contract import Image, Observation, PolicySpec, Task
from vla_server_base.errors import ImageError, InstructionError, RequestError

PROPRIO = "proprio"

_FORMATS = ("PNG", "JPEG", "WEBP")
_JPEG_QUALITY = 80
_PART_CHARS = 2**18
MAX_SIDE = 16_384
"""Pixels along one side of an image: resizing costs by the side, and a file of 2 kB may be millions of pixels wide."""
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def decode_base64(text: str) -> bytes:
    """Return the bytes that `text` stands for; line breaks and a `data:` URL's head are allowed.

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
    """Decode in parts: each holds the interpreter, 45 MB at once would stop the event loop for 0.2 s."""
    parts = (payload[start : start + _PART_CHARS] for start in range(0, len(payload), _PART_CHARS))
    return b"".join(base64.b64decode(part, validate=True) for part in parts)


def decode_image(text: str, field: str, max_pixels: int) -> Image:
    """Return the RGB image that a request's `field` carries, upright as its EXIF says.

    Raises:
        ImageError: not base64, not PNG, JPEG or WebP, damaged, or of more than `max_pixels`.
    """
    try:
        encoded = decode_base64(text)
    except ValueError as error:
        raise ImageError(f"{field} is not base64", hint="send the file of the image as base64") from error
    return decode_image_file(encoded, field, max_pixels)


def decode_image_file(encoded: bytes, field: str, max_pixels: int) -> Image:
    """Return the RGB image of a file's bytes, upright as its EXIF says.

    Raises:
        ImageError: not PNG, JPEG or WebP, damaged, or of more than `max_pixels`.
    """
    try:
        return _decode(encoded, field, max_pixels)
    except (ImageError, MemoryError):  # the second is the server's fault, not the image's
        raise
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise ImageError(
            f"{field} has too many pixels; the limit is {max_pixels}", hint="send a smaller image"
        ) from error
    except Exception as error:  # foreign bytes make the decoders raise nearly anything
        raise ImageError(f"{field} cannot be decoded ({len(encoded)} bytes)", hint="send PNG, JPEG or WebP") from error


def check_size(height: int, width: int, field: str, max_pixels: int) -> None:
    """Refuse an image that would take too long, or too much memory, to resize.

    Raises:
        ImageError: it names the limit.
    """
    if max(height, width) > MAX_SIDE:
        raise ImageError(
            f"{field} is {width}x{height} pixels; the limit is {MAX_SIDE} a side",
            hint="send an image of usual proportions, such as 640x480",
        )
    if height * width > max_pixels:
        raise ImageError(
            f"{field} has {width}x{height} pixels; the limit is {max_pixels}",
            hint="send a smaller image (policies use a few hundred pixels a side), or raise VLA_MAX_IMAGE_PIXELS",
        )


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """An image as it was sent, and the name of its field."""

    field: str
    text: str


def images_by_camera(body: Any, spec: PolicySpec, where: str = "", kind: str = "image") -> dict[str, EncodedImage]:
    """Return the images of a body by camera: of its fields `image`, `image_wrist` and `images`, or `kind`'s.

    `where` is a prefix for the names of the fields.

    Raises:
        ImageError: the policy has no such camera, or two images are of one camera.
    """
    short = {kind: spec.camera_names[0], f"{kind}_wrist": "wrist"}
    given = [(camera, name, getattr(body, name)) for name, camera in short.items() if getattr(body, name) is not None]
    given += [(camera, f"{kind}s.{camera}", text) for camera, text in getattr(body, f"{kind}s").items()]
    images: dict[str, EncodedImage] = {}
    for camera, name, text in given:
        if camera not in spec.camera_names:
            raise ImageError(
                f"{where}{name[:80]}: this policy has no camera '{camera[:80]}'",
                hint=f"it has: {', '.join(spec.camera_names)}",
            )
        if camera in images:
            both = f"{images[camera].field} and {where}{name}"
            raise ImageError(f"{both} are both of the camera '{camera}'", hint="give one")
        images[camera] = EncodedImage(field=f"{where}{name}", text=text)
    return images


def decode_images(
    images: Mapping[str, EncodedImage], max_pixels: int, fit: Callable[[str, Image], Image]
) -> dict[str, Image]:
    """Return images decoded, and as small as the policy's own; not for the event loop.

    Raises:
        ImageError: see `decode_image`.
    """
    return {camera: fit(camera, decode_image(each.text, each.field, max_pixels)) for camera, each in images.items()}


def encode_png(image: Image) -> str:
    """Return an image as base64 PNG."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def encode_jpeg(image: Image) -> str:
    """Return an image as base64 JPEG: a tenth of the PNG, for people to look at."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _decode(encoded: bytes, field: str, max_pixels: int) -> Image:
    # Opening reads the head only, so that size and depth are known before anything is decoded.
    with PillowImage.open(io.BytesIO(encoded), formats=_FORMATS) as opened:
        check_size(opened.height, opened.width, field, max_pixels)
        if opened.mode[0] in "IF":
            raise ImageError(f"{field} has more than 8 bits per channel", hint="send 8-bit RGB")
        ImageOps.exif_transpose(opened, in_place=True)
        # A palette's transparency is lost quietly only by way of RGBA.
        pixels = opened.convert("RGBA") if opened.mode == "P" else opened
        return np.asarray(pixels if pixels.mode == "RGB" else pixels.convert("RGB"))


def check_observation(
    observation: Observation,
    spec: PolicySpec,
    *,
    field_of: Callable[[str], str] | None = None,
    has: str = "",
    hint_for: Callable[[str], str] = "send {}".format,
) -> None:
    """Refuse an observation without an image of a required camera, or without proprio where the policy requires it.

    `field_of` returns what the request calls the image of a camera, or `proprio`, and `hint_for` how to send it; `has`
    lists what the request has instead.

    Raises:
        ImageError, RequestError: naming all that is missing.
    """
    cameras = [camera.name for camera in spec.cameras if camera.required and camera.name not in observation.images]
    lacks_proprio = spec.requires_proprio and observation.proprio is None
    missing = [*cameras, *([PROPRIO] if lacks_proprio else [])]
    if missing:
        fields = [(field_of or _field)(name) for name in missing]
        if lacks_proprio:
            fields[-1] += f" of {described_proprio(spec)}"
        verb, pronoun = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise (ImageError if cameras else RequestError)(
            f"{_listed(fields)} {verb} missing: this policy requires {pronoun} in every observation"
            + (f"; the request has: {has}" if has else ""),
            hint=hint_for(missing[0]),
        )
    if spec.proprio_dim and observation.proprio is not None:
        check_num_proprio(len(observation.proprio), spec)


def check_task(
    task: Task, spec: PolicySpec, *, message: str = "there is no instruction", hint: str = "send an instruction"
) -> None:
    """Refuse a task without words and goal images, unless the policy reads no instruction.

    Raises:
        InstructionError: with `message` and `hint`.
    """
    if not (task.instruction or "").strip() and not task.goal_images and spec.takes_instruction:
        raise InstructionError(message, hint=hint)


def check_num_proprio(num_numbers: int, spec: PolicySpec, name: str = PROPRIO) -> None:
    """Refuse proprio of another length than the policy's; `name` is the field's.

    Raises:
        RequestError: with the expected length, and what the numbers are.
    """
    if num_numbers != spec.proprio_dim:
        hint = "send the state that the policy was trained with" if spec.proprio_dim else "leave it out"
        raise RequestError(f"{name}: expected {described_proprio(spec)}, got {num_numbers}", hint=hint)


def described_proprio(spec: PolicySpec) -> str:
    """Return the policy's proprio in words: `3 numbers (x, y, gripper)`, by name where the checkpoint says."""
    names = f" ({', '.join(spec.proprio_names)})" if spec.proprio_names else ""
    return f"{spec.proprio_dim or 0} numbers{names}"


def _field(name: str) -> str:
    return name if name == PROPRIO else f"the image of the camera '{name}'"


def _listed(fields: list[str]) -> str:
    *others, last = fields
    return f"{', '.join(others)} and {last}" if others else last

"""A camera's image, in each form in which clients send it, as uint8 [height, width, 3], RGB.

Each form of an image gives the same numbers: a float in [0, 1] is rounded to the nearest of 256 levels.
"""

import numpy as np

from vla_server_base.contract import Image
from vla_server_base.errors import ImageError
from vla_server_base.request_inputs import check_size, decode_image_file

FORMS = (
    "send RGB of shape [height, width, 3] or [3, height, width], uint8 or floats in [0, 1],"
    " or the bytes of a PNG, JPEG or WebP file"
)
_GREY = "send a grey image as three equal channels: "
_CHANNELS_HINTS = {
    1: _GREY + "numpy.repeat(image, 3, axis=%d)",
    4: "leave transparency or depth out: numpy.delete(image, 3, axis=%d)",
}


def read_image(value: object, key: str, max_pixels: int) -> Image:
    """Return the image in a client's value; where the first and the last axis are 3, the last one is colour.

    Raises:
        ImageError: it is not an image; with its form, and how to convert it.
    """
    if isinstance(value, bytes):
        return decode_image_file(value, key, max_pixels)
    if not isinstance(value, np.ndarray):
        raise ImageError(f"{key}: expected an array or bytes, got {type(value).__name__}", hint=FORMS)
    image = value
    # A batch, and a window, of one.
    while image.ndim > 3 and len(image) == 1:
        image = image[0]
    image = _channels_last(image, key)
    check_size(image.shape[0], image.shape[1], key, max_pixels)
    return np.ascontiguousarray(_as_uint8(image, key))


def _channels_last(image: np.ndarray, key: str) -> np.ndarray:
    if image.ndim == 3 and image.size:
        if image.shape[2] == 3:
            return image
        if image.shape[0] == 3:
            return image.transpose(1, 2, 0)
    raise ImageError(
        f"{key}: expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}", hint=_shape_hint(image.shape)
    )


def _shape_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return _GREY + "numpy.stack([image] * 3, axis=-1)"
    ends = {axis: shape[axis] for axis in (2, 0)} if len(shape) == 3 else {}
    return next((_CHANNELS_HINTS[size] % axis for axis, size in ends.items() if size in _CHANNELS_HINTS), FORMS)


def _as_uint8(image: np.ndarray, key: str) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        hint = "send image.astype(numpy.uint8), if its numbers go from 0 to 255"
        raise ImageError(f"{key}: expected uint8 or floats, got {image.dtype}", hint=hint)
    low, high = float(image.min()), float(image.max())
    if low >= 0.0 and high <= 1.0:
        return np.rint(image * image.dtype.type(255)).astype(np.uint8)
    raise ImageError(
        f"{key}: expected floats in [0, 1], got {image.dtype} from {low:.4g} to {high:.4g}", hint=_range_hint(low, high)
    )


def _range_hint(low: float, high: float) -> str:
    if np.isnan(low) or low < -1.5 or high > 255.5:
        return FORMS
    if high > 1.5:
        return "send image.astype(numpy.uint8), if its numbers go from 0 to 255"
    if low < -0.1:
        return "send (image + 1) / 2, if its numbers go from -1 to 1"
    return "send numpy.clip(image, 0, 1), if resizing exceeded the range"

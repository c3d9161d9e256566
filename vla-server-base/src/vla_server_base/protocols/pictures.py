"""A camera's picture in the forms in which clients send one, as height x width x 3 of uint8, RGB.

The same picture comes to the same numbers in each form: of a float in [0, 1], the nearest of 256 levels is taken.
"""

import numpy as np

from vla_server_base.contract import Image
from vla_server_base.errors import ImageError
from vla_server_base.images import check_size, decode_image_file

FORMS = (
    "a picture is RGB, height x width x 3 or 3 x height x width, of uint8 or of floats in [0, 1],"
    " or the bytes of a PNG, JPEG or WebP file"
)
_GREY = "a grey picture is sent as three equal channels: "
_CHANNELS_HINTS = {
    1: _GREY + "numpy.repeat(picture, 3, axis=%d)",
    4: "leave transparency or depth out, by numpy.delete(picture, 3, axis=%d)",
}


def read_picture(picture: object, key: str, max_pixels: int) -> Image:
    """Return the picture that a client's value is; where both ends are 3, the last axis is colour.

    Raises:
        ImageError: it is none; with its form, and what to do with it.
    """
    if isinstance(picture, bytes):
        return decode_image_file(picture, key, max_pixels)
    if not isinstance(picture, np.ndarray):
        raise ImageError(f"{key} is {type(picture).__name__}, no array", hint=FORMS)
    image = picture
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
    raise ImageError(f"{key} is of {image.dtype} and shape {list(image.shape)}", hint=_shape_hint(image.shape))


def _shape_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return _GREY + "numpy.stack([picture] * 3, axis=-1)"
    ends = {axis: shape[axis] for axis in (2, 0)} if len(shape) == 3 else {}
    return next((_CHANNELS_HINTS[size] % axis for axis, size in ends.items() if size in _CHANNELS_HINTS), FORMS)


def _as_uint8(image: np.ndarray, key: str) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        hint = "send picture.astype(numpy.uint8), if its numbers go from 0 to 255"
        raise ImageError(f"{key} is of {image.dtype}", hint=hint)
    low, high = float(image.min()), float(image.max())
    if low >= 0.0 and high <= 1.0:
        return np.rint(image * image.dtype.type(255)).astype(np.uint8)
    raise ImageError(
        f"{key} is of {image.dtype} from {low:.4g} to {high:.4g}, not in [0, 1]", hint=_range_hint(low, high)
    )


def _range_hint(low: float, high: float) -> str:
    if np.isnan(low) or low < -1.5 or high > 255.5:
        return FORMS
    if high > 1.5:
        return "send picture.astype(numpy.uint8), if its numbers go from 0 to 255"
    if low < -0.1:
        return "send (picture + 1) / 2, if its numbers go from -1 to 1"
    return "send numpy.clip(picture, 0, 1), if it was resized past its ends"

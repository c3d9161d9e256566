"""Image files are decoded to RGB of 8 bits; images of a camera have one size."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from vla_server_base.datasets.images import decode_image, decode_images, rgb_images, stack_images
from vla_server_base.errors import DatasetError

RGB = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)


def image_file(image: PillowImage.Image, file_format: str = "PNG") -> bytes:
    content = io.BytesIO()
    image.save(content, file_format)
    return content.getvalue()


def test_a_png_is_decoded_exactly():
    np.testing.assert_array_equal(decode_image(image_file(PillowImage.fromarray(RGB))), RGB)


def test_a_jpeg_is_decoded():
    grey = np.full((16, 16, 3), 90, np.uint8)
    decoded = decode_image(image_file(PillowImage.fromarray(grey), "JPEG"))
    assert np.abs(decoded.astype(int) - grey).max() <= 2


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_images_of_other_modes_become_rgb(mode):
    decoded = decode_image(image_file(PillowImage.fromarray(RGB).convert(mode)))
    assert (decoded.shape, decoded.dtype) == ((9, 12, 3), np.uint8)


def test_depth_is_refused():
    depth = PillowImage.fromarray(np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(DatasetError, match="more than 8 bits per channel") as error:
        decode_image(image_file(depth))
    assert error.value.hint == "choose another camera"


@pytest.mark.parametrize("content", [b"", b"no image", image_file(PillowImage.fromarray(RGB))[:40]])
def test_a_damaged_file_is_refused(content):
    with pytest.raises(DatasetError, match="cannot be decoded") as error:
        decode_image(content)
    assert "copy the recording again" in error.value.hint


def test_a_damaged_image_is_named_with_its_timestep():
    good = image_file(PillowImage.fromarray(RGB))
    assert decode_images([good, good], "wrist").shape == (2, 9, 12, 3)
    with pytest.raises(DatasetError, match="wrist at timestep 1: the image cannot be decoded"):
        decode_images([good, b"bad"], "wrist")


def test_images_of_one_camera_have_one_size():
    assert stack_images([RGB, RGB]).shape == (2, 9, 12, 3)
    with pytest.raises(DatasetError, match="image 1 is 12x8, but the first is 12x9"):
        stack_images([RGB, RGB[:8]])


def test_images_of_the_right_type_are_not_copied():
    frames = np.stack([RGB, RGB])
    assert np.shares_memory(rgb_images(frames), frames)


def test_no_images_are_no_error():
    assert rgb_images(np.zeros((0, 4, 4, 3), np.float32)).shape == (0, 4, 4, 3)

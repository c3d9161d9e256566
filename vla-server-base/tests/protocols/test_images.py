"""A picture in each form in which clients send one is the same picture; what is none is refused with a way on."""

import numpy as np
import pytest

from vla_server_base.errors import ImageError
from vla_server_base.protocols.images import read_image

PICTURE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
PICTURE[0, 0, :2] = 0, 255
FLOATS = PICTURE / 255
CHW = (2, 0, 1)
MAX_PIXELS = 10_000


@pytest.mark.parametrize(
    "form",
    [
        PICTURE,
        PICTURE.transpose(CHW),
        np.asfortranarray(PICTURE),
        *(FLOATS.astype(dtype) for dtype in ("f2", "f4", ">f4", "f8")),
        FLOATS.transpose(CHW),
        FLOATS.astype(np.float32).transpose(CHW)[None, None],
    ],
    ids=lambda form: f"{form.dtype}{list(form.shape)}",
)
def test_the_same_picture_in_each_form_is_the_same(form):
    found = read_image(form, "image", MAX_PIXELS)
    np.testing.assert_array_equal(found, PICTURE)
    assert found.flags.c_contiguous


def test_all_256_levels_come_back_from_floats_as_openpi_s_own_way_has_them():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    for dtype in (np.float16, np.float32, np.float64):
        floats = (levels / 255).astype(dtype)
        np.testing.assert_array_equal(read_image(floats, "image", MAX_PIXELS), levels)
        np.testing.assert_array_equal((255 * floats).astype(np.uint8), levels)


def test_where_both_ends_are_three_the_last_axis_is_colour():
    small = PICTURE[:3]
    np.testing.assert_array_equal(read_image(small, "image", MAX_PIXELS), small)


@pytest.mark.parametrize(
    ("image", "message", "hint"),
    [
        (PICTURE[..., 0], r"got uint8 \[4, 6\]", "numpy.stack([image] * 3, axis=-1)"),
        (PICTURE[..., :1], r"uint8 \[4, 6, 1\]", "numpy.repeat(image, 3, axis=2)"),
        (PICTURE[..., 0][None], r"uint8 \[1, 4, 6\]", "numpy.repeat(image, 3, axis=0)"),
        (np.zeros((5, 6, 4), np.uint8), r"uint8 \[5, 6, 4\]", "numpy.delete(image, 3, axis=2)"),
        (np.zeros((4, 5, 6), np.uint8), r"uint8 \[4, 5, 6\]", "numpy.delete(image, 3, axis=0)"),
        (np.stack([PICTURE, PICTURE]), r"uint8 \[2, 4, 6, 3\]", "[height, width, 3]"),
        (PICTURE[:0], r"uint8 \[0, 6, 3\]", "[height, width, 3]"),
        (np.zeros(3, np.uint8), r"uint8 \[3\]", "[height, width, 3]"),
        (PICTURE.astype(np.int64), "got int64", "image.astype(numpy.uint8)"),
        (PICTURE > 9, "got bool", "image.astype(numpy.uint8)"),
        (
            PICTURE.astype(np.float32),
            r"expected floats in \[0, 1\], got float32 from 0 to 255",
            "image.astype(numpy.uint8)",
        ),
        (FLOATS * 2 - 1, "float64 from -1 to 1", "(image + 1) / 2"),
        (FLOATS * 1.1 - 0.05, "from -0.05 to 1.05", "numpy.clip(image, 0, 1)"),
        (FLOATS * 5e3, "from 0 to 5000", "floats in [0, 1]"),
        (np.where(FLOATS > 0.5, np.nan, FLOATS), "from nan to nan", "floats in [0, 1]"),
        (np.where(FLOATS > 0.5, np.inf, FLOATS), "to inf", "floats in [0, 1]"),
        (PICTURE.tolist(), "expected an array or bytes, got list", "PNG, JPEG or WebP"),
        (np.zeros((1, 20_000, 3), np.uint8), "the limit is", "640x480"),
        (np.zeros((200, 200, 3), np.float32), "200x200 pixels; the limit is", "send a smaller image"),
    ],
)
def test_what_is_not_an_image_is_refused_with_a_hint(image, message, hint):
    with pytest.raises(ImageError, match=message) as raised:
        read_image(image, "image", MAX_PIXELS)
    assert hint in (raised.value.hint or "")


@pytest.mark.parametrize("grey", [PICTURE[..., 0], PICTURE[..., :1], PICTURE[..., 0][None]])
def test_the_hint_for_a_grey_image_works(grey):
    with pytest.raises(ImageError) as raised:
        read_image(grey, "image", MAX_PIXELS)
    command = raised.value.hint.partition(": ")[2]
    converted = eval(command, {"numpy": np, "image": grey})
    assert read_image(converted, "image", MAX_PIXELS).shape == (4, 6, 3)

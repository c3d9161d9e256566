"""A picture in each form in which clients send one is the same picture; what is none is refused with a way on."""

import numpy as np
import pytest

from vla_server_base.errors import ImageError
from vla_server_base.protocols.pictures import read_picture

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
    found = read_picture(form, "image", MAX_PIXELS)
    np.testing.assert_array_equal(found, PICTURE)
    assert found.flags.c_contiguous


def test_all_256_levels_come_back_from_floats_as_openpi_s_own_way_has_them():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    for dtype in (np.float16, np.float32, np.float64):
        floats = (levels / 255).astype(dtype)
        np.testing.assert_array_equal(read_picture(floats, "image", MAX_PIXELS), levels)
        np.testing.assert_array_equal((255 * floats).astype(np.uint8), levels)


def test_where_both_ends_are_three_the_last_axis_is_colour():
    small = PICTURE[:3]
    np.testing.assert_array_equal(read_picture(small, "image", MAX_PIXELS), small)


@pytest.mark.parametrize(
    ("picture", "said", "way_on"),
    [
        (PICTURE[..., 0], r"uint8 and shape \[4, 6\]", "numpy.stack([picture] * 3, axis=-1)"),
        (PICTURE[..., :1], r"shape \[4, 6, 1\]", "numpy.repeat(picture, 3, axis=2)"),
        (PICTURE[..., 0][None], r"shape \[1, 4, 6\]", "numpy.repeat(picture, 3, axis=0)"),
        (np.zeros((5, 6, 4), np.uint8), r"shape \[5, 6, 4\]", "numpy.delete(picture, 3, axis=2)"),
        (np.zeros((4, 5, 6), np.uint8), r"shape \[4, 5, 6\]", "numpy.delete(picture, 3, axis=0)"),
        (np.stack([PICTURE, PICTURE]), r"shape \[2, 4, 6, 3\]", "height x width x 3"),
        (PICTURE[:0], r"shape \[0, 6, 3\]", "height x width x 3"),
        (np.zeros(3, np.uint8), r"shape \[3\]", "height x width x 3"),
        (PICTURE.astype(np.int64), "is of int64", "picture.astype(numpy.uint8)"),
        (PICTURE > 9, "is of bool", "picture.astype(numpy.uint8)"),
        (PICTURE.astype(np.float32), r"from 0 to 255, not in \[0, 1\]", "picture.astype(numpy.uint8)"),
        (FLOATS * 2 - 1, "float64 from -1 to 1", "(picture + 1) / 2"),
        (FLOATS * 1.1 - 0.05, "from -0.05 to 1.05", "numpy.clip(picture, 0, 1)"),
        (FLOATS * 5e3, "from 0 to 5000", "floats in [0, 1]"),
        (np.where(FLOATS > 0.5, np.nan, FLOATS), "from nan to nan", "floats in [0, 1]"),
        (np.where(FLOATS > 0.5, np.inf, FLOATS), "to inf", "floats in [0, 1]"),
        (PICTURE.tolist(), "is list, no array", "PNG, JPEG or WebP"),
        (np.zeros((1, 20_000, 3), np.uint8), "at most", "640x480"),
        (np.zeros((200, 200, 3), np.float32), "200x200 pixels, at most", "send it smaller"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_way_on(picture, said, way_on):
    with pytest.raises(ImageError, match=said) as raised:
        read_picture(picture, "image", MAX_PIXELS)
    assert way_on in (raised.value.hint or "")


@pytest.mark.parametrize("grey", [PICTURE[..., 0], PICTURE[..., :1], PICTURE[..., 0][None]])
def test_the_way_on_for_a_grey_picture_works(grey):
    with pytest.raises(ImageError) as raised:
        read_picture(grey, "image", MAX_PIXELS)
    command = raised.value.hint.partition(": ")[2]
    as_told = eval(command, {"numpy": np, "picture": grey})
    assert read_picture(as_told, "image", MAX_PIXELS).shape == (4, 6, 3)

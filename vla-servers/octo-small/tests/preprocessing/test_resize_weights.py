"""Resizing by its laws and against dense weights worked out from the definition of the lanczos kernel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octo_service.preprocessing.images import CROP_AREA, LANCZOS_RADIUS, resize_and_crop, resize_lanczos

sides = st.integers(1, 24)


def an_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def lanczos(size: int, new_size: int) -> np.ndarray:
    """Return what each input gives to each output, one pair at a time."""
    shrinking = max(size / new_size, 1)
    weights = np.zeros((new_size, size))
    for i in range(new_size):
        for j in range(size):
            x = (j + 0.5 - (i + 0.5) * size / new_size) / shrinking
            weights[i, j] = np.sinc(x) * np.sinc(x / LANCZOS_RADIUS) if abs(x) < LANCZOS_RADIUS else 0
    return weights / weights.sum(1, keepdims=True)


def crop(size: int) -> np.ndarray:
    """Return the weights that blow up the middle of an axis, corners on corners."""
    side = np.sqrt(CROP_AREA)
    weights = np.zeros((size, size))
    for i in range(size):
        place = ((1 - side) / 2 + side * (i / max(size - 1, 1))) * (size - 1)
        before = int(np.floor(place))
        weights[i, before] = 1 - (place - before)
        if before + 1 < size:
            weights[i, before + 1] = place - before
    return weights


def resized(down: np.ndarray, image: np.ndarray, across: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(np.einsum("ih,hwc,jw->ijc", down, image.astype(float), across)), 0, 255)


def assert_within_rounding(ours: np.ndarray, expected: np.ndarray) -> None:
    apart = np.abs(ours - expected)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.01


@pytest.mark.parametrize("size", [(20, 30), (7, 40), (5, 3), (13, 16), (1, 9)])
def test_resizing_is_the_lanczos_kernel_along_either_axis(size: tuple[int, int]):
    image = an_image(*size)
    assert_within_rounding(resize_lanczos(image, 12, 16), resized(lanczos(size[0], 12), image, lanczos(size[1], 16)))


@pytest.mark.parametrize("size", [(20, 30), (12, 16), (5, 3)])
def test_cropping_blows_up_the_middle_of_what_was_resized(size: tuple[int, int]):
    image = an_image(*size)
    down, across = crop(12) @ lanczos(size[0], 12), crop(16) @ lanczos(size[1], 16)
    assert_within_rounding(resize_and_crop(image, 12, 16), resized(down, image, across))


@given(sides, sides, sides, sides)
@settings(max_examples=40)
def test_turning_an_image_turns_what_comes_out(height: int, width: int, new_height: int, new_width: int):
    image = an_image(height, width)
    upright, turned = (
        resize_lanczos(image, new_height, new_width),
        resize_lanczos(np.swapaxes(image, 0, 1), new_width, new_height),
    )
    assert np.abs(upright.astype(int) - np.swapaxes(turned, 0, 1)).max() <= 1


@given(sides, sides, sides, sides)
@settings(max_examples=40)
def test_a_mirrored_image_comes_out_mirrored(height: int, width: int, new_height: int, new_width: int):
    image = an_image(height, width)
    mirrored = resize_lanczos(image[:, ::-1], new_height, new_width)
    assert np.abs(resize_lanczos(image, new_height, new_width)[:, ::-1].astype(int) - mirrored).max() <= 1


@given(st.permutations([0, 1, 2]))
@settings(max_examples=6)
def test_each_colour_is_resized_by_itself(order: list[int]):
    image = an_image(9, 11)
    np.testing.assert_array_equal(resize_lanczos(image[..., order], 5, 6), resize_lanczos(image, 5, 6)[..., order])


def test_the_image_given_is_left_as_it_is():
    image = an_image(9, 11)
    before = image.copy()
    resize_lanczos(image, 5, 6)
    resize_and_crop(image, 5, 6)
    np.testing.assert_array_equal(image, before)

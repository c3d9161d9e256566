"""Resizing against the reference's, pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest

from octo_service.parity.inputs import image
from octo_service.preprocessing import images
from octo_service.preprocessing.images import resize_and_crop, resize_lanczos

RESIZED = np.load(Path(__file__).parents[1] / "goldens" / "octo" / "golden_resize.npz")
SIZES = [(480, 640), (256, 256), (224, 224), (128, 168), (720, 1280)]
CAMERAS = {"primary": 256, "wrist": 128}


def differing(ours: np.ndarray, theirs: np.ndarray) -> int:
    """Count values that differ, which may only be by one: where a value lies a hair beside a half."""
    apart = np.abs(ours.astype(int) - theirs)
    assert apart.max() <= 1
    return int((apart > 0).sum())


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("size", SIZES)
class TestParity:
    def test_lanczos(self, size: tuple[int, int], camera: str):
        resized = resize_lanczos(image("resize", *size), CAMERAS[camera], CAMERAS[camera])
        assert differing(resized, RESIZED[f"lanczos_uint8/{size[0]}x{size[1]}/{camera}"]) <= 60

    def test_the_wrapper_crops_the_primary_camera_and_rounds_once(self, size: tuple[int, int], camera: str):
        resize = resize_and_crop if camera == "primary" else resize_lanczos
        resized = resize(image("resize", *size), CAMERAS[camera], CAMERAS[camera])
        assert differing(resized, RESIZED[f"wrapper_uint8/{size[0]}x{size[1]}/{camera}"]) <= 60


def test_the_crop_cannot_be_left_out():
    uncropped = resize_lanczos(image("resize", 480, 640), 256, 256).astype(int)
    assert np.abs(uncropped - RESIZED["wrapper_uint8/480x640/primary"]).max() > 100


def test_an_image_of_the_size_asked_for_is_unchanged():
    frame = image("resize", 256, 256)
    np.testing.assert_array_equal(resize_lanczos(frame, 256, 256), frame)
    np.testing.assert_array_equal(resize_lanczos(frame.astype(np.float32), 256, 256), frame)


@pytest.mark.parametrize("resize", [resize_lanczos, resize_and_crop])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (300, 200), (1080, 64)])
def test_a_flat_image_stays_flat(resize, size: tuple[int, int]):
    flat = np.full((*size, 3), [0, 128, 255], np.uint8)
    assert (resize(flat, 64, 48) == flat[0, 0]).all()
    assert resize(flat, 64, 48).shape == (64, 48, 3)


def test_overshoot_is_clipped_to_the_range():
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 32:] = 255
    assert set(np.unique(resize_lanczos(edge, 97, 97)[:, [0, -1]])) == {0, 255}


def test_views_of_any_layout_give_the_same():
    frame = image("resize", 224, 224)
    turned = np.asfortranarray(frame)[::-1][::-1]
    np.testing.assert_array_equal(resize_lanczos(turned, 256, 256), resize_lanczos(frame, 256, 256))


def test_a_long_side_costs_no_more_than_its_pixels():
    """One row of the longest side that is taken: dense weights of it would be 34 MB for each output row's 8 bytes."""
    stripe = np.tile(np.array([0, 255], np.uint8).repeat(3 * 8192), 1).reshape(1, 16_384, 3)
    resized = resize_lanczos(stripe, 256, 256)
    assert (resized[:, 10] == 0).all()
    assert (resized[:, 245] == 255).all()
    down, across = images._lanczos(1, 16_384, 256, 256)
    assert across.nnz < 7 * 3 * 16_384
    assert down.nnz == 256

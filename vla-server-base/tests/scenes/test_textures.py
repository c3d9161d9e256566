"""Textures come out as OpenGL draws them, whatever draws them."""

import numpy as np
import pytest
from plain_scene import render
from textured_scenes import SIDE, TEXTURED, as_opengl_draws

from vla_server_base.scenes.worker.rendering.raycast.textures import Texture

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", TEXTURED)
async def test_every_renderer_draws_a_texture_as_opengl_did(pools, name):
    expected = as_opengl_draws(name).astype(int)
    for pool in pools.values():
        image = (await render(pool, TEXTURED[name], height=SIDE, width=SIDE)).view.images["primary"]
        difference = np.abs(image - expected).max(axis=2)
        # OpenGL's round things have corners, so that their outlines differ by a pixel: 0.4 % of all are measured.
        assert difference.mean() < 1, f"{pool.renderer}: {difference.mean():.2f} on average"
        assert (difference > 8).mean() < 0.02, f"{pool.renderer}: {(difference > 8).mean():.3f} of the pixels"


def test_a_texture_is_blended_between_its_texels_and_repeats():
    texture = Texture(np.array([[[[0, 0, 0], [200, 100, 50]]]], np.uint8))
    assert sampled(texture, 0.25, 0.5) == pytest.approx([0, 0, 0])
    assert sampled(texture, 0.5, 0.5) == pytest.approx([100, 50, 25], abs=0.1)
    assert sampled(texture, 0.75, 0.5) == pytest.approx([200, 100, 50], abs=0.1)
    assert sampled(texture, 1.0, 7.5) == pytest.approx([100, 50, 25], abs=0.1)
    assert sampled(texture, -2.25, 0.5) == pytest.approx([200, 100, 50], abs=0.1)


def test_a_texture_whose_pixels_span_many_texels_is_averaged():
    stripes = np.zeros((1, 16, 16, 3), np.uint8)
    stripes[:, :, ::2] = 200
    texture = Texture(stripes)
    assert sampled(texture, 1 / 32, 0.5)[0] == pytest.approx(200, abs=1)
    assert sampled(texture, 1 / 32, 0.5, pixel=1 / 16)[0] == pytest.approx(200, abs=1)
    assert sampled(texture, 1 / 32, 0.5, pixel=1 / 8)[0] == pytest.approx(100, abs=1)
    assert sampled(texture, 1 / 32, 0.5, pixel=1e6)[0] == pytest.approx(100, abs=1)


def test_one_of_six_images_ends_in_its_own_colours():
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.full((1, 4, 4, 3), 40, np.uint8)
    texture = Texture(images)
    for number in range(6):
        assert sampled(texture, 0.999, 0.001, image=number) == pytest.approx([40 * number] * 3, abs=0.1)


def sampled(texture: Texture, u: float, v: float, *, pixel: float = 0.001, image: int | None = None) -> np.ndarray:
    """Return the colour, 0 to 255, of a pixel that spans so much of the texture."""
    here = np.array([[u], [v]], np.float32)
    beside = here + np.array([[pixel], [0]], np.float32)
    return texture.sample(here, beside, here, None if image is None else np.array([image]))[:, 0] * 255

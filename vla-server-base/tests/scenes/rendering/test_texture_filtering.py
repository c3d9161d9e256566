"""A texture's colours between its texels, between its mipmaps, and beyond its edges."""

import mujoco
import numpy as np
import pytest

from vla_server_base.scenes.worker.rendering.raycast.textures import CUBE_FACES, Texture, read_texture

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
QUARTERS = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)
BLACK_AND_WHITE = np.tile(np.array([[0, 255], [255, 0]], np.uint8)[..., None], (4, 4, 3))


def sampled(texture: Texture, u: float, v: float, step: float = 0.0, image: int | None = None) -> list[float]:
    at = np.array([[u], [v]], np.float32)
    right, down = at + np.array([[step], [0]], np.float32), at + np.array([[0], [step]], np.float32)
    images = None if image is None else np.array([image])
    return texture.sample(at, right, down, images)[:, 0].tolist()


@pytest.mark.parametrize(
    ("u", "v", "colour"), [(0.25, 0.25, RED), (0.75, 0.25, GREEN), (0.25, 0.75, BLUE), (0.75, 0.75, WHITE)]
)
def test_the_middle_of_a_texel_has_its_colour_and_v_goes_down(u, v, colour):
    assert sampled(Texture(QUARTERS[None]), u, v) == pytest.approx(np.array(colour) / 255)


def test_between_texels_colours_blend():
    texture = Texture(QUARTERS[None])
    assert sampled(texture, 0.5, 0.25) == pytest.approx([0.5, 0.5, 0])
    assert sampled(texture, 0.5, 0.5) == pytest.approx([0.5, 0.5, 0.5])
    assert sampled(texture, 0.375, 0.25) == pytest.approx([0.75, 0.25, 0])


@pytest.mark.parametrize(("u", "v"), [(1.25, 0.25), (-0.75, 0.25), (0.25, 7.25), (5.25, -2.75)])
def test_one_image_repeats_in_both_directions(u, v):
    assert sampled(Texture(QUARTERS[None]), u, v) == pytest.approx([1, 0, 0])


def test_at_the_edge_one_image_blends_with_its_other_side():
    assert sampled(Texture(QUARTERS[None]), 0.0, 0.25) == pytest.approx([0.5, 0.5, 0])


def test_the_faces_of_a_cube_end_in_their_outermost_colours_and_do_not_mix():
    faces = np.stack([np.full((2, 2, 3), 40 * face, np.uint8) for face in range(CUBE_FACES)])
    faces[3] = QUARTERS
    texture = Texture(faces)
    assert sampled(texture, 0.0, 0.0, image=3) == pytest.approx([1, 0, 0])
    assert sampled(texture, 1.0, 1.0, image=3) == pytest.approx([1, 1, 1])
    assert sampled(texture, 0.5, 0.5, image=2) == pytest.approx([80 / 255] * 3)


@pytest.mark.parametrize("step", [1.0, 4.0])
def test_a_pixel_that_spans_the_whole_image_sees_its_mean(step):
    assert sampled(Texture(BLACK_AND_WHITE[None]), 0.3, 0.6, step) == pytest.approx([0.5] * 3, abs=0.01)


def test_a_pixel_of_one_texel_sees_the_finest_image_and_of_two_the_next():
    texture = Texture(BLACK_AND_WHITE[None])
    middle = 0.5 / 8
    assert sampled(texture, middle, middle, 1 / 8) == pytest.approx([0, 0, 0])
    assert sampled(texture, middle, middle, 2 / 8) == pytest.approx([0.5] * 3, abs=0.01)
    assert sampled(texture, middle, middle, np.sqrt(2) / 8) == pytest.approx([0.25] * 3, abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (2, 4), (16, 1), (8, 32)])
def test_images_have_mipmaps_down_to_their_mean(size):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    far = sampled(Texture(image[None]), 0.5, 0.5, 100.0)
    assert far == pytest.approx(image.mean(axis=(0, 1)) / 255, abs=0.02)


@pytest.mark.parametrize("size", [(3, 5), (1, 7), (6, 9)])
def test_images_of_odd_sizes_stay_between_their_darkest_and_brightest_texels(size):
    image = np.random.default_rng(1).integers(50, 200, (*size, 3), np.uint8)
    for step in (0.01, 0.3, 100.0):
        far = sampled(Texture(image[None]), 0.4, 0.7, step)
        assert image.min() / 255 <= min(far) <= max(far) <= image.max() / 255


def test_srgb_is_decoded_to_linear_light():
    grey = np.full((1, 1, 1, 3), 128, np.uint8)
    assert sampled(Texture(grey), 0.5, 0.5) == pytest.approx([128 / 255] * 3)
    assert sampled(Texture(grey, srgb=True), 0.5, 0.5) == pytest.approx([0.2158] * 3, abs=1e-3)


TEXTURES = """<mujoco><asset>
<texture name="flat" type="2d" builtin="flat" rgb1="1 0 0" width="4" height="2"/>
<texture name="cube" type="cube" builtin="flat" rgb1="0 1 0" rgb2="0 0 1" width="4" height="24"/>
<texture name="same" type="cube" builtin="flat" rgb1="1 1 0" rgb2="1 1 0" width="4" height="4"/>
</asset></mujoco>"""


def test_a_models_textures_are_read_by_their_type():
    model = mujoco.MjModel.from_xml_string(TEXTURES)
    textures = [read_texture(model, model.texture(name).id) for name in ("flat", "cube", "same")]
    flat, cube, same = (texture for texture in textures if texture is not None)
    assert [texture.num_images for texture in (flat, cube, same)] == [1, CUBE_FACES, CUBE_FACES]
    assert sampled(flat, 0.5, 0.5) == pytest.approx([1, 0, 0])
    assert sampled(cube, 0.5, 0.5, image=0) == pytest.approx([0, 1, 0])
    assert sampled(same, 0.5, 0.5, image=4) == pytest.approx([1, 1, 0])

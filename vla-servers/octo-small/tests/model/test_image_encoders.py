"""Image encoders: sizes of what they give, and stems step by step in numpy."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_arrays import convolved, numbers

from octo_service.model.image_encoders import IMAGE_ENCODERS
from octo_service.model.image_stem import PatchEncoder, SmallStem
from octo_service.model.parameters import Leaves, Parameters, declared_shapes, stored
from octo_service.model.resnet import ViTResnet

STEM = SmallStem(patch_size=16, kernel_sizes=(3, 3), strides=(2, 2), features=(32, 64), padding=(1, 1), num_features=8)


def pixels(seed: int, *shape: int) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, shape), jnp.float32)


def drawn(encoder: PatchEncoder | SmallStem | ViTResnet, x: jnp.ndarray, film: jnp.ndarray | None = None) -> Parameters:
    shapes = declared_shapes(lambda parameters: encoder(parameters, x, film))
    leaves = {path: numbers(index, *shape) for index, (path, shape) in enumerate(sorted(shapes.items()))}
    return stored(Leaves({path: jnp.asarray(leaf) for path, leaf in leaves.items()}, {}))


def normed(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    groups = x.reshape(*x.shape[:3], 32, -1)
    mean, deviation = (f(groups, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.std))
    return ((groups - mean) / np.sqrt(deviation**2 + 1e-6)).reshape(x.shape) * scale + bias


def test_a_patch_is_encoded_by_itself():
    encoder = PatchEncoder(patch_size=4, num_features=5)
    x = pixels(0, 1, 8, 8, 3)
    parameters = drawn(encoder, x)
    tokens = np.asarray(encoder(parameters, x, None))
    changed = np.asarray(encoder(parameters, x.at[0, :4, :4].set(0), None))
    assert tokens.shape == (1, 2, 2, 5)
    assert np.abs(tokens - changed)[0, 0, 0].min() > 0
    np.testing.assert_allclose(np.delete(tokens.reshape(4, 5), 0, 0), np.delete(changed.reshape(4, 5), 0, 0), rtol=1e-5)


def test_a_patch_encoder_is_one_product_a_patch():
    encoder = PatchEncoder(patch_size=4, num_features=5)
    x = pixels(0, 2, 8, 8, 3)
    parameters = drawn(encoder, x)
    kernel, bias = parameters.get("embedding/kernel", 4, 4, 3, 5), parameters.get("embedding/bias", 5)
    expected = convolved(np.asarray(x) / 127.5 - 1, np.asarray(kernel), 4, 0) + np.asarray(bias)
    np.testing.assert_allclose(encoder(parameters, x, None), expected, atol=1e-4)


def test_a_small_stem_is_its_layers_one_after_the_other():
    x = pixels(0, 2, 16, 16, 3)
    parameters = drawn(STEM, x)
    weights = STEM.weights(parameters, 3)
    y = np.asarray(x) / 127.5 - 1
    for kernel, *others in weights.layers:
        bias, scale, shift = map(np.asarray, others)
        y = np.maximum(normed(convolved(y, np.asarray(kernel), 2, 1) + bias, scale, shift), 0)
    kernel, bias = map(np.asarray, weights.patches)
    np.testing.assert_allclose(STEM(parameters, x, None), convolved(y, kernel, 1, 0) + bias, atol=2e-3)


def test_the_kernels_of_a_stem_are_standardized_once_and_its_patches_are_not():
    parameters = drawn(STEM, pixels(0, 1, 16, 16, 3))
    weights = STEM.weights(parameters, 3)
    for kernel, *_ in weights.layers:
        np.testing.assert_allclose(np.std(kernel, axis=(0, 1, 2)), 1, atol=1e-3)
    np.testing.assert_array_equal(weights.patches[0], parameters.get("embedding/kernel", 1, 1, 64, 8))


@pytest.mark.parametrize("norm", ["default", "imagenet"])
def test_a_goal_encoded_apart_is_a_goal_encoded_together(norm: str):
    stem = SmallStem(
        patch_size=16, kernel_sizes=(3,), strides=(4,), features=(32,), padding=(1,), num_features=4, img_norm_type=norm
    )
    image, goal = pixels(0, 1, 16, 16, 3), pixels(1, 1, 16, 16, 3)
    both = jnp.concatenate([image, goal], axis=-1)
    parameters = drawn(stem, both)
    weights = stem.weights(parameters, 6)
    features = stem.first_layer(weights, jnp.concatenate([jnp.zeros_like(image), goal], axis=-1))
    np.testing.assert_allclose(stem.encode(weights, image, features), stem(parameters, both, None), atol=1e-3)


@pytest.mark.parametrize(("name", "side"), [("SmallStem16", 1), ("SmallStem32", 2)])
def test_the_last_kernel_of_a_stem_covers_what_its_strides_leave_of_a_patch(name: str, side: int):
    encoder = IMAGE_ENCODERS[name](features=(32, 32, 32, 32), num_features=8)
    shapes = declared_shapes(lambda parameters: encoder(parameters, jnp.zeros((1, 64, 64, 3)), None))
    assert shapes["embedding/kernel"] == (side, side, 32, 8)


def test_film_changes_a_stem_by_the_condition_of_each_image():
    x = jnp.broadcast_to(pixels(0, 1, 16, 16, 3), (2, 16, 16, 3))
    film = jnp.asarray(numbers(1, 2, 3))
    features = np.asarray(STEM(drawn(STEM, x, film), x, film))
    assert np.abs(features[0] - features[1]).max() > 0.1


def test_each_stage_of_a_resnet_but_the_first_halves_the_sides_and_doubles_the_width():
    resnet = ViTResnet(num_layers=(1, 1))
    shapes = declared_shapes(lambda parameters: resnet(parameters, jnp.zeros((1, 32, 32, 3)), None))
    assert shapes["conv_root/kernel"] == (7, 7, 3, 64)
    assert shapes["block1/unit1/conv_proj/kernel"] == (1, 1, 64, 256)
    assert shapes["block2/unit1/conv_proj/kernel"] == (1, 1, 256, 512)
    assert not any(path.endswith("conv_root/bias") for path in shapes)


def test_only_the_first_unit_of_a_stage_projects_what_it_passes_on():
    resnet = ViTResnet(num_layers=(2,))
    shapes = declared_shapes(lambda parameters: resnet(parameters, jnp.zeros((1, 16, 16, 3)), None))
    assert "block1/unit1/conv_proj/kernel" in shapes
    assert "block1/unit2/conv_proj/kernel" not in shapes


def test_film_follows_every_stage_of_a_resnet_but_the_first():
    x, film = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 3))

    def films(*num_layers: int) -> set[str]:
        resnet = ViTResnet(num_layers=num_layers)
        shapes = declared_shapes(lambda parameters: resnet(parameters, x, film))
        return {path.split("/")[0] for path in shapes if path.startswith("Film")}

    assert films() == {"FilmConditioning_0"}
    assert films(1) == set()
    assert films(1, 1, 1) == {"FilmConditioning_0", "FilmConditioning_1"}


def test_a_resnet_without_stages_is_its_root():
    resnet = ViTResnet()
    x = pixels(0, 1, 16, 16, 3)
    features = np.asarray(resnet(drawn(resnet, x), x, None))
    assert features.shape == (1, 4, 4, 64)
    assert features.min() >= 0

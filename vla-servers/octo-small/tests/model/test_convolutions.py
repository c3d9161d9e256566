"""Convolutions, group norms and FiLM against their definitions, written out in numpy."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_arrays import convolved, numbers

from octo_service.model.convolutions import (
    apply_kernel,
    condition,
    convolve,
    group_norm,
    normalize_groups,
    normalize_images,
    standardized,
)
from octo_service.model.parameters import Leaves, Parameters, declared_shapes, stored


def place(**leaves: np.ndarray) -> Parameters:
    return stored(Leaves({path.replace("__", "/"): jnp.asarray(leaf) for path, leaf in leaves.items()}, {}))


def test_default_normalization_maps_bytes_to_minus_one_and_one():
    pixels = jnp.array([0.0, 127.5, 255.0]).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(np.ravel(normalize_images(pixels, "default")), [-1, 0, 1])


def test_imagenet_normalization_is_repeated_for_the_goals_channels():
    pixels = jnp.full((1, 2, 2, 6), 255.0)
    normed = np.asarray(normalize_images(pixels, "imagenet"))
    np.testing.assert_array_equal(normed[..., :3], normed[..., 3:])
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(normed[0, 0, 0, :3], expected, rtol=1e-6)


@pytest.mark.parametrize(("size", "stride", "around"), [(1, 1, 0), (3, 1, 1), (3, 2, 1), (4, 4, 0), (2, 1, 0)])
def test_a_convolution_is_the_sum_over_the_kernels_places(size: int, stride: int, around: int):
    x, kernel = numbers(0, 2, 8, 8, 3), numbers(1, size, size, 3, 5)
    y = apply_kernel(jnp.asarray(kernel), jnp.asarray(x), stride, ((around, around), (around, around)))
    np.testing.assert_allclose(y, convolved(x, kernel, stride, around), atol=1e-5)


def test_same_padding_of_an_even_size_and_stride_adds_to_the_far_side_alone():
    x, kernel = numbers(0, 1, 8, 8, 1), numbers(1, 3, 3, 1, 1)
    y = apply_kernel(jnp.asarray(kernel), jnp.asarray(x), 2, "SAME")
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    np.testing.assert_allclose(y, convolved(padded, kernel, 2, 0), atol=1e-5)


def test_a_bias_is_added_to_every_place_and_is_left_out_where_not_wanted():
    x, kernel = jnp.asarray(numbers(0, 1, 4, 4, 2)), numbers(1, 3, 3, 2, 4)
    plain = convolve(place(kernel=kernel), x, 4, 3, bias=False)
    biased = convolve(place(kernel=kernel, bias=np.arange(4, dtype=np.float32)), x, 4, 3)
    np.testing.assert_allclose(biased - plain, np.broadcast_to(np.arange(4), plain.shape), atol=1e-5)


def test_a_convolution_declares_kernel_and_bias_by_the_channels_that_it_sees():
    shapes = declared_shapes(lambda parameters: convolve(parameters, jnp.zeros((1, 4, 4, 6)), 8, 3))
    assert shapes == {"kernel": (3, 3, 6, 8), "bias": (8,)}


def test_a_standardized_kernel_has_mean_0_and_deviation_1_for_each_output():
    kernel = np.asarray(standardized(jnp.asarray(numbers(0, 3, 3, 4, 2) * 7 + 3)))
    np.testing.assert_allclose(kernel.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(kernel.std((0, 1, 2)), 1, atol=1e-4)


def test_a_constant_kernel_is_standardized_to_zeros_and_not_to_nan():
    np.testing.assert_array_equal(standardized(jnp.full((3, 3, 2, 1), 5.0)), np.zeros((3, 3, 2, 1)))


def test_a_standardized_convolution_ignores_the_scale_and_the_mean_of_its_kernel():
    x, kernel = jnp.asarray(numbers(0, 1, 5, 5, 2)), numbers(1, 3, 3, 2, 4)
    one, other = (convolve(place(kernel=k), x, 4, 3, standardize=True, bias=False) for k in (kernel, 3 * kernel + 1))
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_group_norm_gives_each_of_32_groups_mean_0_and_deviation_1():
    x = numbers(0, 2, 3, 3, 64) * 5 + 2
    normed = np.asarray(normalize_groups(jnp.asarray(x), jnp.ones(64), jnp.zeros(64))).reshape(2, 3, 3, 32, 2)
    np.testing.assert_allclose(normed.mean((1, 2, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(normed.std((1, 2, 4)), 1, atol=1e-3)


def test_group_norm_is_taken_over_each_image_alone():
    x = numbers(0, 2, 3, 3, 32)
    louder = np.concatenate([x[:1], 100 * x[1:]])
    one, other = (normalize_groups(jnp.asarray(each), jnp.ones(32), jnp.zeros(32)) for each in (x, louder))
    np.testing.assert_array_equal(one[0], other[0])


def test_group_norm_scales_and_shifts_by_feature():
    x, scale, bias = numbers(0, 1, 2, 2, 32), numbers(1, 32), numbers(2, 32)
    plain = normalize_groups(jnp.asarray(x), jnp.ones(32), jnp.zeros(32))
    normed = group_norm(place(scale=scale, bias=bias), jnp.asarray(x))
    np.testing.assert_allclose(normed, np.asarray(plain) * scale + bias, atol=1e-5)


def test_a_flat_image_is_normalized_to_the_bias():
    normed = normalize_groups(jnp.full((1, 4, 4, 32), 9.0), jnp.ones(32), jnp.full(32, 0.5))
    np.testing.assert_allclose(normed, 0.5, atol=1e-6)


def film(scale: float, shift: float) -> Parameters:
    layers = {}
    for name, value in (("Dense_0", scale), ("Dense_1", shift)):
        layers |= {f"{name}__kernel": np.zeros((3, 4), np.float32), f"{name}__bias": np.full(4, value, np.float32)}
    return place(**layers)


def test_film_of_zero_weights_changes_nothing():
    x = jnp.asarray(numbers(0, 2, 3, 3, 4))
    np.testing.assert_array_equal(condition(film(0, 0), x, jnp.ones((2, 3))), x)


def test_films_first_layer_scales_by_one_more_and_its_second_shifts():
    x = jnp.asarray(numbers(0, 2, 3, 3, 4))
    np.testing.assert_allclose(condition(film(1, 5), x, jnp.ones((2, 3))), 2 * x + 5, rtol=1e-6)

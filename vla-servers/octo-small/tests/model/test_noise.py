"""Noise against known values: of the generator, of the normal distribution, and of what flax names a module's key."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from octo_service.model import noise
from octo_service.model.noise import diffusion_noise, gumbel_noise, module_key, next_key, training_noise

KEY = jax.random.PRNGKey(0)


def uniform(count: int) -> np.ndarray:
    """Spread float32 numbers over (-1, 1), with more towards the ends."""
    return np.tanh(np.linspace(-7, 7, count)).astype(np.float32)


def test_a_key_is_split_into_the_two_that_jax_documents():
    rest, step = next_key(np.array([0, 0], np.uint32))
    assert rest.tolist() == [4146024105, 967050713]
    assert step.tolist() == [2718843009, 1272950319]


def test_normal_numbers_are_those_of_the_inverse_error_function():
    u = uniform(999)
    expected = np.sqrt(2) * special.erfinv(u.astype(np.float64))
    np.testing.assert_allclose(noise._normal_on_host(u), expected, rtol=1e-5, atol=1e-7)  # Giles's tails


def test_normal_numbers_are_odd_and_zero_at_zero():
    u = uniform(101)
    np.testing.assert_array_equal(noise._normal_on_host(u), -noise._normal_on_host(-u))
    assert noise._normal_on_host(np.zeros(1, np.float32)) == 0


def test_the_lowest_uniform_number_gives_a_finite_normal_one():
    lowest = noise._normal_on_host(np.array([noise.LOWEST], np.float32))
    assert -6 < lowest < -5


def test_log1p_is_right_to_the_last_bits_near_zero_and_far_from_it():
    x = -np.logspace(-7, -0.001, 200).astype(np.float32)
    np.testing.assert_allclose(noise._log1p(x), np.log1p(x.astype(np.float64)), rtol=3e-7)


def test_a_product_is_added_before_it_is_rounded():
    a = np.array([1 + 2**-12], np.float32)
    exact = np.float32((1 + 2**-12) ** 2 - 1)
    assert noise._multiply_add(a, a, np.float32(-1)) == exact
    assert a * a - np.float32(1) != exact


def test_noise_is_normally_distributed():
    start, steps = diffusion_noise(KEY, (4, 500), 3)
    assert stats.kstest(np.ravel(steps), "norm").pvalue > 1e-3
    assert stats.kstest(np.ravel(start), "norm").pvalue > 1e-3


def test_noise_has_the_shape_asked_for_and_no_number_twice():
    start, steps = diffusion_noise(KEY, (2, 1, 3), 4)
    assert (start.shape, steps.shape) == ((2, 1, 3), (4, 2, 1, 3))
    assert start.dtype == steps.dtype == np.float32
    assert len(np.unique(np.concatenate([np.ravel(start), np.ravel(steps)]))) == 30


def test_more_steps_leave_the_noise_of_the_first_ones():
    (start, steps), (same, more) = (diffusion_noise(KEY, (2, 3), count) for count in (2, 5))
    np.testing.assert_array_equal(start, same)
    np.testing.assert_array_equal(steps, more[:2])


def test_each_steps_key_is_the_second_half_of_the_split_before():
    start, _ = diffusion_noise(KEY, (4,), 1)
    _, step = next_key(np.asarray(KEY))
    with jax.threefry_partitionable(False):
        u = jax.random.uniform(jnp.asarray(step), (4,), minval=noise.LOWEST, maxval=1.0)
    np.testing.assert_array_equal(start, noise._normal_on_host(np.asarray(u)))


@pytest.mark.parametrize("partitionable", [True, False])
def test_the_programs_own_layout_of_random_bits_does_not_matter(partitionable: bool):
    expected = diffusion_noise(KEY, (2, 3), 2)[0]
    with jax.threefry_partitionable(partitionable):
        np.testing.assert_array_equal(diffusion_noise(KEY, (2, 3), 2)[0], expected)


def test_a_newer_kind_of_key_draws_the_same():
    np.testing.assert_array_equal(gumbel_noise(jax.random.key(0), (2, 3)), gumbel_noise(KEY, (2, 3)))


def test_inside_somebody_elses_program_noise_is_the_same_but_for_rounding():
    start, steps = jax.jit(lambda key: diffusion_noise(key, (2, 3), 2))(KEY)
    expected = diffusion_noise(KEY, (2, 3), 2)
    np.testing.assert_allclose(start, expected[0], atol=1e-5)
    np.testing.assert_allclose(steps, expected[1], atol=1e-5)


def test_gumbel_noise_is_distributed_as_its_name_says():
    drawn = np.ravel(gumbel_noise(KEY, (2000,)))
    assert stats.kstest(drawn, "gumbel_r").pvalue > 1e-3
    assert np.isfinite(drawn).all()


def test_training_draws_every_time_and_noise_of_the_shape():
    times, drawn = training_noise(np.asarray(KEY), (3, 40, 2, 4), 5)
    assert times.shape == (3, 40, 2, 1)
    assert set(np.unique(times)) == set(range(5))
    assert drawn.shape == (3, 40, 2, 4)
    assert (times.dtype, drawn.dtype) == (np.int32, np.float32)


def test_a_modules_key_is_folded_with_the_digest_of_its_path():
    digest = hashlib.sha1(b"heads_actionmap_head\x01").digest()
    expected = jax.random.fold_in(KEY, np.uint32(int.from_bytes(digest[:4], "big")))
    np.testing.assert_array_equal(module_key(KEY, "heads_action/map_head"), expected)


def test_modules_of_other_paths_have_other_keys():
    paths = ["a", "b", "a/b", "a/b/c"]
    assert len({tuple(np.asarray(module_key(KEY, path))) for path in paths}) == 4


def test_a_key_that_was_split_is_never_the_one_it_came_from():
    keys, key = set(), np.array([0, 42], np.uint32)
    for _ in range(20):
        keys |= {tuple(key)}
        key, step = next_key(key)
        assert tuple(step) not in keys
        keys |= {tuple(step)}
    assert len(keys) == 40

"""Guided denoising: what is frozen ends where it is to, and the rest is drawn to it as the policy sees fit."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_arrays import numbers
from test_diffusion import ACTION_DIM, EMBEDDING, HEAD, HORIZON, NUMBERS, PLACE, X_T, Z

from octo_service.model.heads.diffusion import cosine_betas
from octo_service.model.heads.guidance import Guide, guided_noise, prefix_weights

STEPS, ROWS = 20, 8


def test_weights_are_one_where_frozen_then_fall_to_zero():
    weights = prefix_weights(2, 6, 10)
    falling = np.array([4, 3, 2, 1]) / 5
    np.testing.assert_allclose(weights[:6], [1, 1, *falling * np.expm1(falling) / np.expm1(1)], rtol=1e-6)
    np.testing.assert_array_equal(weights[6:], 0)
    assert (np.diff(prefix_weights(0, 8, 8)) < 0).all()
    np.testing.assert_array_equal(prefix_weights(0, 0, 4), 0)


def of_gaussian(covariance: np.ndarray, guide: Guide, num_samples: int = 1) -> np.ndarray:
    """Sample N(0, covariance) by the same steps as the head, with the best denoiser that there is."""
    betas = cosine_betas(STEPS)
    alphas, kept = 1 - betas, np.cumprod(1 - betas)
    draws = np.random.default_rng(0).normal(size=(STEPS + 1, num_samples, 1, ROWS)).astype(np.float32)
    x = jnp.asarray(draws[-1])
    for time in reversed(range(STEPS)):
        spread = kept[time] * covariance + (1 - kept[time]) * np.eye(ROWS)
        to_noise = np.sqrt(1 - kept[time]) * np.linalg.inv(spread)
        noise = guided_noise(lambda x, to_noise=to_noise: x @ to_noise, x, jnp.asarray(kept[time]), guide, 1e3)
        x = (x - betas[time] / np.sqrt(1 - kept[time]) * noise) / np.sqrt(alphas[time])
        x = x + (np.sqrt(betas[time]) * draws[time] if time else 0)
    return np.asarray(x)[:, 0]


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_frozen_rows_of_a_gaussian_end_as_the_prefix(scale: float):
    target = np.linspace(-1, 2, ROWS, dtype=np.float32)[None]
    found = of_gaussian(scale**2 * np.eye(ROWS), Guide(target, prefix_weights(3, 3, ROWS)[None]))[0]
    np.testing.assert_allclose(found[:3], target[0, :3], atol=1e-4)
    assert np.abs(found[3:] - target[0, 3:]).max() > 0.1


def test_rows_that_go_with_frozen_ones_follow_them():
    rows = np.arange(ROWS)
    smooth = np.exp(-((rows[:, None] - rows) ** 2) / 18.0) + 0.01 * np.eye(ROWS)
    guide = Guide(np.full((1, ROWS), 2, np.float32), prefix_weights(3, 3, ROWS)[None])
    free = Guide(guide.target, np.zeros((1, ROWS), np.float32))
    guided, plain = (of_gaussian(smooth, each, num_samples=64).mean(axis=0) for each in (guide, free))
    # The conditional mean of the next row, given those that are frozen, is near theirs.
    assert abs(plain[3]) < 0.5
    assert guided[3] > 1.4


def test_the_heads_frozen_rows_are_the_guides_and_samples_are_guided_as_alone():
    target = 0.5 * numbers(60, 2, NUMBERS)
    weights = np.repeat(prefix_weights(1, 2, HORIZON), ACTION_DIM)[None].repeat(2, axis=0)
    dims = jnp.asarray(ACTION_DIM)
    chunk = np.asarray(HEAD.sample(PLACE, EMBEDDING, X_T, Z, dims, Guide(target, weights)))
    np.testing.assert_allclose(chunk[:, 0], target[:, :ACTION_DIM], atol=1e-5)
    x_T, z = jnp.stack([X_T, -X_T]), jnp.stack([Z, -Z], axis=1)
    together = np.asarray(HEAD.sample(PLACE, EMBEDDING, x_T, z, dims, Guide(target, weights)))
    np.testing.assert_allclose(together[0], chunk, atol=1e-5)


def test_without_weights_a_guide_changes_nothing():
    guide = Guide(np.ones((2, NUMBERS), np.float32), np.zeros((2, NUMBERS), np.float32))
    plain, guided = (HEAD.sample(PLACE, EMBEDDING, X_T, Z, jnp.asarray(ACTION_DIM), each) for each in (None, guide))
    np.testing.assert_allclose(guided, plain, atol=1e-6)

"""Denoising: the schedule, a chunk against the formulas of the paper, and the dimensions that a robot lacks."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_arrays import numbers

from octo_service.model.heads import DiffusionHead
from octo_service.model.heads.diffusion import cosine_betas
from octo_service.model.parameters import Leaves, declared_shapes, stored

STEPS, HORIZON, ACTION_DIM, DIM = 3, 2, 2, 4
HEAD = DiffusionHead(
    readout_key="readout_action",
    action_horizon=HORIZON,
    action_dim=ACTION_DIM,
    max_action=2.0,
    time_dim=4,
    num_blocks=1,
    hidden_dim=8,
    diffusion_steps=STEPS,
)
NUMBERS = HORIZON * ACTION_DIM
SHAPES = declared_shapes(
    lambda place: HEAD.predict_noise(place, jnp.zeros((1, DIM)), jnp.zeros((1, NUMBERS)), jnp.zeros((1, 1)))
)
PLACE = stored(
    Leaves({path: jnp.asarray(0.3 * numbers(i, *shape)) for i, (path, shape) in enumerate(sorted(SHAPES.items()))}, {})
)
EMBEDDING = jnp.asarray(numbers(50, 2, DIM))
X_T, Z = jnp.asarray(numbers(51, 2, NUMBERS)), jnp.asarray(numbers(52, STEPS, 2, NUMBERS))


def sampled(x_T: jnp.ndarray, z: jnp.ndarray, action_dim: int | list[int] = ACTION_DIM) -> np.ndarray:
    return np.asarray(HEAD.sample(PLACE, EMBEDDING, x_T, z, jnp.asarray(action_dim)))


@given(st.integers(1, 200))
@settings(max_examples=20)
def test_at_every_step_some_noise_is_added_and_in_the_end_nothing_is_left(steps: int):
    betas = cosine_betas(steps)
    assert betas.dtype == np.float32
    assert (betas > 0).all()
    assert (betas <= np.float32(0.999)).all()
    assert np.prod(1 - betas) < 1e-2


def test_how_much_is_kept_falls_as_the_square_of_a_cosine():
    kept = np.cumprod(1 - cosine_betas(20))
    expected = np.cos((np.arange(1, 21) / 20 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(kept[:-1], expected[:-1], rtol=1e-4)


def test_a_chunk_is_denoised_step_by_step_as_in_the_paper():
    betas = cosine_betas(STEPS)
    alphas, kept = 1 - betas, np.cumprod(1 - betas)
    x = np.asarray(X_T)
    for i, time in enumerate(reversed(range(STEPS))):
        noise = HEAD.predict_noise(PLACE, EMBEDDING, jnp.asarray(x), jnp.full((2, 1), float(time)))
        x = (x - betas[time] / np.sqrt(1 - kept[time]) * np.asarray(noise)) / np.sqrt(alphas[time])
        x = x + (np.sqrt(betas[time]) * np.asarray(Z[i]) if time else 0)
        x = np.clip(x, -2, 2).astype(np.float32)
    np.testing.assert_allclose(sampled(X_T, Z), x.reshape(2, HORIZON, ACTION_DIM), atol=1e-4)


def test_the_last_step_adds_no_noise():
    np.testing.assert_array_equal(sampled(X_T, Z), sampled(X_T, Z.at[-1].set(9.0)))


def test_earlier_noise_matters():
    assert np.abs(sampled(X_T, Z) - sampled(X_T, Z.at[1].add(0.5))).max() > 1e-4


def test_a_chunk_stays_within_the_largest_action():
    assert np.abs(sampled(100 * X_T, 100 * Z)).max() <= 2


def test_samples_of_one_readout_are_each_what_they_are_alone():
    x_T, z = jnp.stack([X_T, -X_T]), jnp.stack([Z, -Z], axis=1)
    together = sampled(x_T, z)
    assert together.shape == (2, 2, HORIZON, ACTION_DIM)
    np.testing.assert_allclose(together[0], sampled(X_T, Z), atol=1e-5)
    np.testing.assert_allclose(together[1], sampled(-X_T, -Z), atol=1e-5)


def test_dimensions_that_a_robot_lacks_end_as_the_least_noise():
    kept = 1 - cosine_betas(STEPS)[0]
    expected = np.sqrt(1 - kept) * np.asarray(Z[-1]).reshape(2, HORIZON, ACTION_DIM)[..., 1]
    np.testing.assert_allclose(sampled(X_T, Z, action_dim=1)[..., 1], expected, atol=1e-5)


def test_each_row_may_be_another_robots():
    both = sampled(X_T, Z, action_dim=[1, 2])
    np.testing.assert_allclose(both[0], sampled(X_T, Z, action_dim=1)[0], atol=1e-5)
    np.testing.assert_allclose(both[1], sampled(X_T, Z)[1], atol=1e-5)


@pytest.mark.parametrize("changed", ["embedding", "noisy", "time"])
def test_the_noise_predicted_depends_on_all_that_is_given(changed: str):
    given = {"embedding": EMBEDDING, "noisy": X_T, "time": jnp.ones((2, 1))}
    one, other = (HEAD.predict_noise(PLACE, **each) for each in (given, given | {changed: given[changed] + 1}))
    assert np.abs(one - other).max() > 1e-4


def test_without_layer_norm_the_head_has_no_parameters_of_it():
    plain = DiffusionHead(readout_key="readout_action", num_blocks=1, use_layer_norm=False)
    given = jnp.zeros((1, DIM)), jnp.zeros((1, 7)), jnp.zeros((1, 1))
    assert not any("LayerNorm" in path for path in declared_shapes(lambda place: plain.predict_noise(place, *given)))
    assert any("LayerNorm" in path for path in SHAPES)

"""Learning rates, intervals and parts of a batch: what each promises, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_arrays import numbers

from octo_service.errors import ModelConfigError
from octo_service.model.parameters import Part
from octo_service.training.learning_rates import Constant, Cosine, InverseSquareRoot, LearningRate, learning_rate
from octo_service.training.losses import DiffusionDraws, real_actions, weight_of
from octo_service.training.parts import summed

KINDS = [
    Constant(peak_value=2.0, warmup_steps=10),
    Cosine(peak_value=2.0, warmup_steps=10, decay_steps=50, end_value=0.5),
    InverseSquareRoot(peak_value=2.0, warmup_steps=10, timescale=20),
]


@pytest.mark.parametrize("rate", KINDS)
def test_a_rate_rises_evenly_to_its_peak(rate: LearningRate):
    np.testing.assert_allclose([rate(step) for step in range(11)], np.linspace(0, 2, 11), rtol=1e-6)


@pytest.mark.parametrize("rate", KINDS)
def test_after_the_warm_up_a_rate_never_rises(rate: LearningRate):
    after = np.array([rate(step) for step in range(10, 70, 5)])
    assert (np.diff(after) <= 1e-7).all()
    assert (after > 0).all()


def test_a_rate_may_begin_above_zero_and_need_no_warm_up():
    assert Constant(init_value=0.5, peak_value=1.0, warmup_steps=4)(0) == 0.5
    assert Constant(init_value=0.5, peak_value=1.0, warmup_steps=0)(0) == 1.0


def test_a_cosine_is_half_way_in_the_middle_and_stays_at_its_end():
    rate = KINDS[1]
    assert rate(30) == pytest.approx(1.25)
    assert rate(50) == rate(5000) == pytest.approx(0.5)


def test_an_inverse_square_root_is_half_after_three_timescales():
    assert KINDS[2](10 + 3 * 20) == pytest.approx(1.0)


@pytest.mark.parametrize("decay_steps", [5, 10])
def test_a_cosine_that_ends_before_its_warm_up_is_refused(decay_steps: int):
    with pytest.raises(ModelConfigError, match=rf"decay_steps \({decay_steps}\) must be more than warmup_steps \(10\)"):
        Cosine(warmup_steps=10, decay_steps=decay_steps)(20)


def test_a_schedule_of_a_config_is_made_by_name():
    assert learning_rate({"name": "cosine", "decay_steps": 9, "warmup_steps": 3}) == Cosine(
        decay_steps=9, warmup_steps=3
    )
    assert learning_rate({"name": "rsqrt", "timescale": 5}) == InverseSquareRoot(timescale=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "linear"}, "'linear' is not known; available: constant, cosine, rsqrt"),
        ({}, "'None' is not known"),
        ({"name": "constant", "timescale": 5}, "'constant' has options it does not take.*timescale"),
    ],
)
def test_a_schedule_that_is_not_known_is_refused(options: dict, message: str):
    with pytest.raises(ModelConfigError, match=message):
        learning_rate(options)


BATCH, WINDOW, HORIZON, ACTION_DIM = 6, 2, 3, 2
SHAPE = (BATCH, WINDOW, HORIZON, ACTION_DIM)


def a_batch(seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    return {
        "observation": {"timestep_pad_mask": random.random((BATCH, WINDOW)) < 0.7},
        "action": jnp.asarray(numbers(seed, *SHAPE)),
        "action_pad_mask": random.random(SHAPE) < 0.6,
    }


def masked_mean(batch: dict) -> jnp.ndarray:
    real = real_actions(batch)
    return jnp.mean(batch["action"] * real) / weight_of(real)


def over_parts(of_part, batch: dict, draws: DiffusionDraws | None, num_parts: int) -> jnp.ndarray:
    batch, draws = jax.tree_util.tree_map(jnp.asarray, (batch, draws))
    return summed(of_part, batch, draws, num_parts)


@given(st.sampled_from([2, 3, 6]), st.integers(0, 5))
@settings(max_examples=4)
def test_the_parts_shares_make_the_mean_of_the_whole(num_parts: int, seed: int):
    batch = a_batch(seed)
    in_parts = over_parts(lambda one, draws, part, share: masked_mean(one) * share, batch, None, num_parts)
    assert in_parts == pytest.approx(float(masked_mean(batch)), abs=1e-5)


def test_a_part_in_which_nothing_is_learnt_counts_nothing():
    batch = a_batch()
    batch["action_pad_mask"][:3] = False
    shares = over_parts(lambda one, draws, part, share: jnp.zeros(2).at[part.number].set(share), batch, None, 2)
    assert shares[0] == pytest.approx(0, abs=1e-4)
    assert shares[1] == pytest.approx(1, abs=1e-4)


def test_parts_are_numbered_and_know_how_many_there_are():
    def number(one: dict, draws: None, part: Part, share: jnp.ndarray) -> jnp.ndarray:
        assert part.of == 3
        return jnp.zeros(3).at[part.number].add(one["action"].sum())

    expected = np.asarray(a_batch()["action"]).reshape(3, -1).sum(1)
    np.testing.assert_allclose(over_parts(number, a_batch(), None, 3), expected, rtol=1e-4, atol=1e-5)


def test_a_part_has_the_draws_of_its_samples():
    rows = np.broadcast_to(np.arange(BATCH, dtype=np.float32)[:, None, None], (4, BATCH, WINDOW, 1))
    draws = DiffusionDraws(time=rows.astype(np.int32), noise=np.array(rows))

    def first_rows(one: dict, drawn: DiffusionDraws, part: Part, share: jnp.ndarray) -> jnp.ndarray:
        assert drawn.noise.shape == (4, 2, WINDOW, 1)
        return jnp.zeros((3, 2)).at[part.number].set(drawn.noise[0, :, 0, 0])

    np.testing.assert_array_equal(over_parts(first_rows, a_batch(), draws, 3), [[0, 1], [2, 3], [4, 5]])


def test_an_action_is_learnt_from_where_it_and_its_timestep_are_real():
    batch = a_batch()
    real = np.asarray(real_actions(batch))
    for index in np.ndindex(SHAPE):
        timestep = batch["observation"]["timestep_pad_mask"][index[:2]]
        assert real[index] == (timestep and batch["action_pad_mask"][index])


def test_a_batch_without_anything_to_learn_is_not_divided_by_zero():
    assert weight_of(jnp.zeros(SHAPE, bool)) == pytest.approx(1e-5)

"""Action heads: shapes, bounds, and what a mask or noise does to a chunk."""

import jax.numpy as jnp
import numpy as np
import pytest

from octo_service.errors import ModelConfigError
from octo_service.model.heads import ACTION_HEADS, ContinuousHead, DiffusionHead, DiscreteHead
from octo_service.model.heads.diffusion import cosine_betas
from octo_service.model.parameters import Leaves, Parameters, declared_shapes, stored
from octo_service.model.random_leaves import random_leaves
from octo_service.model.tokens import TokenGroup

BATCH, WINDOW, DIM = 2, 3, 16
SIZES = {"readout_key": "readout_action", "action_horizon": 4, "action_dim": 3}


def a_readout(num_tokens: int = 2, scale: float = 1.0) -> TokenGroup:
    random = np.random.default_rng(0)
    tokens = scale * random.standard_normal((BATCH, WINDOW, num_tokens, DIM)).astype(np.float32)
    return TokenGroup(jnp.asarray(tokens), jnp.ones((BATCH, WINDOW, num_tokens), bool))


def parameters_of(forward) -> Parameters:
    leaves = random_leaves(declared_shapes(forward), seed=0)
    return stored(Leaves({path: jnp.asarray(leaf) for path, leaf in leaves.items()}, {}))


@pytest.mark.parametrize("use_map", [True, False])
def test_a_continuous_head_predicts_a_chunk_at_every_timestep(use_map: bool):
    head, readout = ContinuousHead(**SIZES, use_map=use_map), a_readout()
    chunks = head(parameters_of(lambda place: head(place, readout)), readout)
    assert chunks.shape == (BATCH, WINDOW, 4, 3)


def test_a_continuous_chunk_stays_within_its_bounds():
    head, readout = ContinuousHead(**SIZES, max_action=0.5), a_readout(scale=100)
    chunks = head(parameters_of(lambda place: head(place, readout)), readout)
    assert np.abs(chunks).max() <= 0.5


def test_the_regression_heads_pool_by_attention_unless_configured():
    assert ACTION_HEADS["L1ActionHead"](**SIZES) == ContinuousHead(**SIZES, use_map=True, loss_type="l1")
    assert ACTION_HEADS["MSEActionHead"](**SIZES, use_map=False) == ContinuousHead(**SIZES, loss_type="mse")


@pytest.mark.parametrize(
    ("token_per", "num_tokens"), [("", 1), ("action_horizon", 4), ("action_dim_and_action_horizon", 12)]
)
def test_a_discrete_head_needs_the_tokens_that_its_config_says(token_per: str, num_tokens: int):
    head = DiscreteHead(**SIZES, token_per=token_per, vocab_size=8)
    readout = a_readout(num_tokens)
    logits = head(parameters_of(lambda place: head(place, readout)), readout)
    assert logits.shape == (BATCH, WINDOW, 4, 3, 8)
    with pytest.raises(ModelConfigError, match=f"needs {num_tokens} tokens, but 'readout_action' has {num_tokens + 1}"):
        declared_shapes(lambda place: head(place, a_readout(num_tokens + 1)))


def test_a_discrete_head_of_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ModelConfigError, match="token_per='joint' is not known; known:"):
        declared_shapes(lambda place: DiscreteHead(**SIZES, token_per="joint")(place, a_readout()))


def test_without_noise_the_likeliest_bin_is_taken():
    head = DiscreteHead(**SIZES, vocab_size=8)
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((BATCH, 4, 3, 8)), jnp.float32)
    np.testing.assert_array_equal(head.sample(logits, None, 1.0), head.actions(logits.argmax(-1)))


def test_noise_decides_at_a_high_temperature_and_not_at_a_low_one():
    head = DiscreteHead(**SIZES, vocab_size=8)
    random = np.random.default_rng(0)
    logits, gumbel = (jnp.asarray(random.standard_normal((BATCH, 4, 3, 8)), jnp.float32) for _ in range(2))
    np.testing.assert_array_equal(head.sample(logits, gumbel, 1e6), head.actions(gumbel.argmax(-1)))
    np.testing.assert_array_equal(head.sample(logits, gumbel, 1e-6), head.actions(logits.argmax(-1)))


def test_labels_and_actions_of_a_discrete_head_are_each_others_inverse():
    head = DiscreteHead(**SIZES, vocab_size=16, normalization_type="normal")
    np.testing.assert_array_equal(head.labels(head.actions(jnp.arange(16))), np.arange(16))


DIFFUSION = DiffusionHead(**SIZES, hidden_dim=32, num_blocks=1, diffusion_steps=5)


@pytest.fixture(scope="module")
def place() -> Parameters:
    def forward(place: Parameters) -> None:
        embedding = DIFFUSION.embed(place, a_readout())
        noisy, time = jnp.zeros((BATCH, WINDOW, 12)), jnp.zeros((BATCH, WINDOW, 1))
        DIFFUSION.predict_noise(place, embedding, noisy, time)

    return parameters_of(forward)


class TestDiffusion:
    def sampled(self, place: Parameters, *, seed: int = 0, dims: int = 3, samples: tuple[int, ...] = ()) -> np.ndarray:
        random = np.random.default_rng(seed)
        x_T = jnp.asarray(random.standard_normal((*samples, BATCH, 12)), jnp.float32)
        z = jnp.asarray(random.standard_normal((5, *samples, BATCH, 12)), jnp.float32)
        embedding = DIFFUSION.embed(place, a_readout())[:, -1]
        return np.asarray(DIFFUSION.sample(place, embedding, x_T, z, jnp.asarray(dims)))

    def test_a_chunk_is_denoised_within_its_bounds(self, place: Parameters):
        chunk = self.sampled(place)
        assert chunk.shape == (BATCH, 4, 3)
        assert np.abs(chunk).max() <= DIFFUSION.max_action

    def test_the_same_noise_gives_the_same_chunk_and_other_noise_another(self, place: Parameters):
        np.testing.assert_array_equal(self.sampled(place), self.sampled(place))
        assert not np.array_equal(self.sampled(place), self.sampled(place, seed=1))

    def test_samples_come_on_leading_axes(self, place: Parameters):
        assert self.sampled(place, samples=(2, 3)).shape == (2, 3, BATCH, 4, 3)

    def test_dimensions_that_an_embodiment_lacks_end_as_scaled_noise(self, place: Parameters):
        random = np.random.default_rng(0)
        random.standard_normal((BATCH, 12))
        last = random.standard_normal((5, BATCH, 12)).astype(np.float32)[-1].reshape(BATCH, 4, 3)
        chunk = self.sampled(place, dims=2)
        scale = np.sqrt(cosine_betas(5)[0])
        np.testing.assert_allclose(chunk[..., 2], scale * last[..., 2], rtol=1e-5)


def test_noise_is_added_ever_faster():
    betas = cosine_betas(20)
    assert (np.diff(betas) > 0).all()
    assert (betas > 0).all()
    assert betas[-1] == np.float32(0.999)

"""Each head's gradient against finite differences of its own loss, and dropout where a config asks for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_octo import ACTION_DIM, DIFFUSION, HORIZON, REGRESSION, batch_of, small_checkpoint, small_octo

from octo_service.model.octo import build_octo
from octo_service.model.parameters import Leaves, Parameters, declared_shapes, random_leaves, stored
from octo_service.model.tokens import TokenGroup
from octo_service.training.losses import draw, head_loss, loss_fn

DISCRETE = {"name": "DiscreteActionHead", "kwargs": {"use_map": True, "vocab_size": 16}}


@pytest.mark.parametrize("kind", [DIFFUSION, REGRESSION, DISCRETE], ids=lambda kind: kind["name"])
def test_the_gradient_is_the_slope_of_the_loss(kind: dict):
    head = build_octo(small_checkpoint(kind).config["model"]).heads["action"]
    random, rng = np.random.default_rng(0), np.array([0, 5], np.uint32)
    actions = jnp.asarray(random.standard_normal((2, 1, HORIZON, ACTION_DIM)), jnp.float32)
    readout = TokenGroup(jnp.asarray(random.standard_normal((2, 1, 1, 64)), jnp.float32), jnp.ones((2, 1, 1), bool))
    real = jnp.ones(actions.shape, bool).at[0, 0, 1].set(False)
    draws = draw(head, rng, (2, 1))

    def loss(place: Parameters):
        return head_loss(head, place / "heads_action", readout, actions, real, draws)[0]

    @jax.jit
    def loss_of(leaves: dict):
        return loss(stored(Leaves(leaves, {})))

    leaves = {path: jnp.asarray(leaf) for path, leaf in random_leaves(declared_shapes(loss), 0).items()}
    gradient = jax.jit(jax.grad(loss_of))(leaves)
    direction = {path: leaf / np.sqrt(leaf.size) for path, leaf in gradient.items()}
    slope = sum(float(jnp.vdot(gradient[path], direction[path])) for path in leaves)
    size = 1e-3 / np.sqrt(sum(float(jnp.vdot(leaf, leaf)) for leaf in direction.values()))
    ahead, behind = (
        float(loss_of({path: leaf + side * size * direction[path] for path, leaf in leaves.items()}))
        for side in (1, -1)
    )
    assert (ahead - behind) / (2 * size) == pytest.approx(slope, rel=1e-2)


@pytest.mark.parametrize("rate", ["dropout_rate", "attention_dropout_rate"])
def test_the_transformer_drops_in_training_where_its_config_says_so(rate: str):
    octo, params = small_octo(REGRESSION, **{rate: 0.5})
    batch = batch_of(2, seed=0)
    compiled = jax.jit(functools.partial(loss_fn, octo), static_argnums=4)

    def loss(seed: int, train: bool) -> float:
        return float(compiled(params, batch, np.array([0, seed], np.uint32), None, train)[0])

    assert len({loss(0, True), loss(1, True), loss(0, False)}) == 3
    assert loss(0, True) == loss(0, True)
    assert loss(0, False) == loss(1, False)


def test_a_padded_timestep_teaches_nothing():
    octo, params = small_octo(REGRESSION)
    batch, rng = batch_of(2, seed=0, window=2), np.array([0, 0], np.uint32)
    batch["observation"]["timestep_pad_mask"][:, 0] = False
    compiled = jax.jit(functools.partial(loss_fn, octo))
    expected, _ = compiled(params, batch, rng, None)
    batch["action"][:, 0] += 1
    batch["observation"]["image_primary"][:, 0] = 0
    found, _ = compiled(params, batch, rng, None)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)

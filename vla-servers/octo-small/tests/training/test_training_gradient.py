"""Each head's gradient against finite differences of its own loss, and dropout where a config asks for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_octo import ACTION_DIM, DIFFUSION, HORIZON, REGRESSION, batch_of, small_checkpoint, small_octo

from octo_service.model import parameters, t5
from octo_service.model.noise import module_key
from octo_service.model.octo_config import build_octo
from octo_service.model.parameters import Leaves, Parameters, declared_shapes, stored
from octo_service.model.random_leaves import random_leaves
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

    leaves = random_leaves(declared_shapes(loss), 0)
    compiled = jax.jit(jax.value_and_grad(lambda leaves: loss(stored(Leaves(leaves, {})))))
    gradient = jax.device_get(compiled(leaves)[1])
    direction = {path: leaf / np.sqrt(leaf.size) for path, leaf in gradient.items()}
    slope = sum(np.vdot(gradient[path], direction[path]) for path in leaves)
    size = 1e-3 / np.sqrt(sum(np.vdot(leaf, leaf) for leaf in direction.values()))
    ahead, behind = (
        compiled({path: np.float32(leaf + side * size * direction[path]) for path, leaf in leaves.items()})[0]
        for side in (1, -1)
    )
    assert float(ahead - behind) / (2 * size) == pytest.approx(slope, rel=1e-2)


@pytest.mark.parametrize(
    ("rate", "modules"),
    [
        ("dropout_rate", {"Dropout_0", "MlpBlock_0/Dropout_0", "MlpBlock_0/Dropout_1"}),
        ("attention_dropout_rate", {"MultiHeadDotProductAttention_0/"}),
    ],
)
def test_each_layer_drops_by_keys_of_its_own_where_the_config_says_so(
    rate: str, modules: set[str], monkeypatch: pytest.MonkeyPatch
):
    octo, params = small_octo(REGRESSION, num_layers=2, **{rate: 0.5})
    drawn: list[str] = []
    monkeypatch.setattr(parameters, "module_key", lambda rng, path: (drawn.append(path), module_key(rng, path))[1])
    jax.eval_shape(lambda params: loss_fn(octo, params, batch_of(2, seed=0), np.zeros(2, np.uint32), None), params)
    place = "octo_transformer/BlockTransformer_0/Transformer_0/encoderblock_"
    assert sorted(drawn) == sorted(f"{place}{layer}/{module}" for layer in (0, 1) for module in modules)


@pytest.mark.parametrize("finetune_encoder", [False, True])
def test_the_text_encoder_is_taught_where_its_config_says_so(finetune_encoder: bool):
    checkpoint = small_checkpoint(REGRESSION)
    checkpoint.config["model"]["task_tokenizers"]["language"]["kwargs"]["finetune_encoder"] = finetune_encoder
    octo, batch, rng = build_octo(checkpoint.config["model"]), batch_of(2, seed=0), np.array([0, 0], np.uint32)
    tokens = np.arange(32).reshape(2, 16)
    batch["task"]["language_instruction"] = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    text = {path: leaf for path, leaf in checkpoint.params.items() if path.startswith(t5.ROOT)}

    @jax.jit
    def slope(text: dict, others: dict):
        """Say how fast the loss changes when the whole text encoder grows."""
        return jax.jvp(lambda text: loss_fn(octo, {**others, **text}, batch, rng, None)[0], (text,), (text,))[1]

    assert (float(slope(text, checkpoint.params)) != 0) == finetune_encoder


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

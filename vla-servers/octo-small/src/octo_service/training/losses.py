"""What training minimizes: each action head's loss over every timestep of the window.

Follows the `loss` methods of octo/model/components/action_heads.py and `loss_fn` of scripts/finetune.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from octo_service.model import t5
from octo_service.model.heads import ActionHead, ContinuousHead, DiffusionHead, DiscreteHead
from octo_service.model.heads.diffusion import cosine_betas
from octo_service.model.noise import Key, training_noise
from octo_service.model.octo import Octo
from octo_service.model.parameters import Leaves, Parameters, Part, stack_layers, stored
from octo_service.model.prediction import embed_text
from octo_service.model.tokens import LanguageTokenizer, TokenGroup

Metrics = dict[str, Float[Array, ""]]
# "observation" and "task" as the model takes them, "action" and "action_pad_mask" (batch, window, horizon, action_dim).
Batch = Mapping[str, Any]
Params = Mapping[str, Float[Array | np.ndarray, "..."]]
Actions = Float[Array, "batch window horizon action_dim"]


class DiffusionDraws(NamedTuple):
    """What a diffusion head is taught with in one step: how noisy the actions are made, and the noise."""

    time: Int[Array | np.ndarray, "samples batch window 1"]
    noise: Float[Array | np.ndarray, "samples batch window numbers"]


def draw(head: ActionHead, rng: Key, batch_and_window: tuple[int, int]) -> DiffusionDraws | None:
    """Draw, on the host, what the reference's head draws for the key of a step; None if it draws nothing."""
    if not isinstance(head, DiffusionHead):
        return None
    shape = (head.n_diffusion_samples, *batch_and_window, head.action_horizon * head.action_dim)
    return DiffusionDraws(*training_noise(rng, shape, head.diffusion_steps))


def loss_fn(
    octo: Octo,
    params: Params,
    batch: Batch,
    rng: Key,
    draws: DiffusionDraws | None,
    train: bool = True,
    part: Part | None = None,
    remat: bool = False,
) -> tuple[Float[Array, ""], Metrics]:
    """Return the loss of a batch, and it with other measures by name.

    `params` are leaves by path. `draws` are those of `draw` for the same `rng`, which dropout uses (`train`); both are
    the reference's to the bit within `jax.threefry_partitionable(False)`. The instruction may be token ids or the
    text encoder's embedding of them. `batch` may be a `part` of a whole one; with `remat` the gradient takes less
    memory and more time.
    """
    leaves = _leaves(octo, params)
    place = replace(stored(leaves, rng if train else None), part=part, remat=remat)
    observations, tasks = batch["observation"], _with_text_embedded(octo, params, leaves, batch["task"])
    mask = jnp.asarray(observations["timestep_pad_mask"], bool)
    head = octo.heads["action"]
    readout = octo.run_transformer(place, observations, tasks, mask)[head.readout_key]
    actions = jnp.asarray(batch["action"], jnp.float32)
    return head_loss(head, place / "heads_action", readout, actions, real_actions(batch), draws)


def real_actions(batch: Batch) -> Bool[Array, "batch window horizon action_dim"]:
    """Say which actions of a batch are learnt from."""
    mask = jnp.asarray(batch["observation"]["timestep_pad_mask"], bool)
    return mask[:, :, None, None] & jnp.asarray(batch["action_pad_mask"], bool)


def weight_of(real: Array) -> Float[Array, "..."]:
    """Return what a loss is divided by: the share of actions that is learnt from, over the last four axes."""
    return jnp.maximum(jnp.mean(real, axis=(-4, -3, -2, -1)), 1e-5)


def head_loss(
    head: ActionHead,
    place: Parameters,
    readout: TokenGroup,
    actions: Actions,
    real: Bool[Array, "batch window horizon action_dim"],
    draws: DiffusionDraws | None,
) -> tuple[Float[Array, ""], Metrics]:
    """Return an action head's loss; where `real` is False an action counts nothing."""
    if isinstance(head, DiscreteHead):
        return _discrete_loss(head, head(place, readout), actions, real)
    if isinstance(head, ContinuousHead):
        return _distance(head, head(place, readout), actions, real)
    assert draws is not None, "a diffusion head is taught with draws"
    return _diffusion_loss(head, place, readout, actions, real, draws)


def _leaves(octo: Octo, params: Params) -> Leaves:
    # Layers in a loop share one path, and so would share their dropout.
    drops = octo.transformer.dropout_rate or octo.transformer.attention_dropout_rate
    if drops:
        return Leaves({path: jnp.asarray(leaf) for path, leaf in params.items()}, {})
    return stack_layers(params, jnp.stack)


def _with_text_embedded(octo: Octo, params: Params, leaves: Leaves, tasks: Mapping[str, Any]) -> Mapping[str, Any]:
    tokens = tasks.get("language_instruction")
    if not isinstance(tokens, Mapping):
        return tasks
    sizes = t5.sizes_of({path: leaf.shape for path, leaf in params.items()})
    assert sizes is not None, "token ids need the parameters of the text encoder"
    rows = jnp.asarray(params[t5.EMBEDDING])[jnp.asarray(tokens["input_ids"])]
    embedded = embed_text(sizes, leaves, rows, jnp.asarray(tokens["attention_mask"]))
    readers = [reader for reader in octo.task_tokenizers.values() if isinstance(reader, LanguageTokenizer)]
    if not any(reader.finetune_encoder for reader in readers):
        embedded = jax.lax.stop_gradient(embedded)
    return {**tasks, "language_instruction": embedded}


def _masked_mean(x: Array, mask: Array) -> Array:
    mask = jnp.broadcast_to(mask, x.shape)
    return jnp.mean(x * mask) / jnp.maximum(jnp.mean(mask), 1e-5)


def _distance(
    head: ContinuousHead | DiffusionHead, predicted: Array, target: Array, real: Array
) -> tuple[Float[Array, ""], Metrics]:
    mse = _masked_mean(jnp.square(predicted - target), real)
    loss = mse if head.loss_type == "mse" else _masked_mean(jnp.abs(predicted - target), real)
    # Summed over the numbers of an action, not averaged.
    loss, mse = loss * head.action_dim, mse * head.action_dim
    return loss, {"loss": loss, "mse": mse}


def _diffusion_loss(
    head: DiffusionHead, place: Parameters, readout: TokenGroup, actions: Actions, real: Array, draws: DiffusionDraws
) -> tuple[Float[Array, ""], Metrics]:
    noise = jnp.asarray(draws.noise)
    kept = jnp.asarray(np.cumprod(1 - cosine_betas(head.diffusion_steps)))[draws.time]
    actions = jnp.clip(actions, -head.max_action, head.max_action).reshape(1, *noise.shape[1:])
    noisy = jnp.sqrt(kept) * actions + jnp.sqrt(1 - kept) * noise
    embedding = head.embed(place, readout)
    embedding = jnp.broadcast_to(embedding, (*noise.shape[:3], embedding.shape[-1]))
    predicted = head.predict_noise(place, embedding, noisy, jnp.asarray(draws.time, jnp.float32))
    return _distance(head, predicted, noise, real.reshape(1, *noise.shape[1:]))


def _discrete_loss(
    head: DiscreteHead, logits: Array, actions: Actions, real: Array
) -> tuple[Float[Array, ""], Metrics]:
    labels, likeliest = head.labels(actions), logits.argmax(-1)
    surprise = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
    loss = _masked_mean(surprise, real)
    mse = _masked_mean(jnp.square(head.actions(likeliest) - actions), real) * head.action_dim
    return loss, {"loss": loss, "mse": mse, "accuracy": _masked_mean(likeliest == labels, real)}

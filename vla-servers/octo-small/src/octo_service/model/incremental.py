"""Octo one timestep at a time: what the task and earlier timesteps contribute is computed once and kept.

Attention is causal over blocks: the task sees itself; a timestep sees the task, the timesteps before it and itself
(octo/model/components/block_transformer.py of octo-models/octo). So each block's keys and values, layer by layer, are a
`Context` for those that come after, whatever these are. Tokens that nobody sees are left out of it: groups that are
masked, and readouts of other heads. The results are those of `Octo.run_transformer`, rounded elsewhere.

All arrays are of one item: a batch is many of them (`jax.vmap`).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from octo_service.model.attention_mask import Group, group_names
from octo_service.model.transformer import normalize

LAYERS = "octo_transformer/BlockTransformer_0/Transformer_0/"
# So few tokens attend by sums instead of products of matrices.
FEW = 4


class Layer(NamedTuple):
    """One encoder block's weights, those of query, key and value side by side."""

    norm_attention: tuple[Array, Array]
    attend: tuple[Float[Array, "dim 3*dim"], Float[Array, " 3*dim"]]
    out: tuple[Float[Array, "dim dim"], Float[Array, " dim"]]
    norm_mlp: tuple[Array, Array]
    mlp: tuple[tuple[Array, Array], tuple[Array, Array]]


class Context(NamedTuple):
    """One layer's keys and values of all blocks so far: of tokens that all see, and of those that readouts see."""

    keys: Float[Array, "tokens dim"]
    values: Float[Array, "tokens dim"]
    readout_keys: Float[Array, "readouts dim"]
    readout_values: Float[Array, "readouts dim"]


class Block(NamedTuple):
    """The tokens of the task or of one timestep: those that all see, and the readout's, which only readouts see."""

    tokens: Float[Array, "tokens dim"]
    readouts: Float[Array, "readouts dim"]


@dataclass(frozen=True)
class BlockLayout:
    """Which tokens of a timestep's groups, laid side by side, are in its Block, and which of these a head reads.

    `needed` counts through `tokens`, then `readouts`.
    """

    tokens: tuple[int, ...]
    readouts: tuple[int, ...]
    needed: tuple[int, ...]


@functools.lru_cache(maxsize=256)
def layout_of(
    groups: tuple[Group, ...], real: tuple[str, ...], readout_key: str, use_correct_attention: bool
) -> BlockLayout:
    """Lay out a timestep of `groups`, of which those named `real` are not masked, for a head that reads `readout_key`.

    A head may read one readout, or all observations ("obs").
    """
    owners = np.repeat([name for name, _ in groups], [size for _, size in groups])
    names = np.array(group_names(groups, use_correct_attention))
    reads = np.char.startswith(owners, "obs_") if readout_key == "obs" else owners == readout_key
    is_real = np.isin(owners, real)
    tokens = np.flatnonzero(is_real & np.char.startswith(names, "obs_"))
    # A readout of another name is seen by its own kind alone, so that it may be left out; not so if the head reads it.
    readouts = np.flatnonzero(is_real & ~np.char.startswith(names, "obs_") & ((names == readout_key) | reads))
    needed = np.flatnonzero(reads[np.concatenate([tokens, readouts])])
    return BlockLayout(tuple(tokens.tolist()), tuple(readouts.tolist()), tuple(needed.tolist()))


def layers_of(params: Mapping[str, np.ndarray], num_layers: int, dtype: Any) -> list[Layer]:
    """Lay out the weights of every encoder block of a checkpoint for `extend` and `answer`, on the device.

    Kernels are of `dtype`, and so is what is multiplied with them; sums and all else are float32.
    """

    def dense(place: str) -> tuple[Array, Array]:
        return jnp.asarray(params[f"{place}/kernel"], dtype), jnp.asarray(params[f"{place}/bias"], np.float32)

    def layer(place: str) -> Layer:
        attention = f"{place}/MultiHeadDotProductAttention_0"
        dim = params[f"{attention}/out/bias"].shape[0]
        parts = [f"{attention}/{name}" for name in ("query", "key", "value")]
        kernels = np.concatenate([np.asarray(params[f"{part}/kernel"]).reshape(dim, dim) for part in parts], axis=1)
        biases = np.concatenate([np.asarray(params[f"{part}/bias"]).reshape(dim) for part in parts])
        out = np.asarray(params[f"{attention}/out/kernel"]).reshape(dim, dim)
        return Layer(
            norm_attention=norm_of(params, f"{place}/LayerNorm_0"),
            attend=(jnp.asarray(kernels, dtype), jnp.asarray(biases, np.float32)),
            out=(jnp.asarray(out, dtype), jnp.asarray(params[f"{attention}/out/bias"], np.float32)),
            norm_mlp=norm_of(params, f"{place}/LayerNorm_1"),
            mlp=(dense(f"{place}/MlpBlock_0/Dense_0"), dense(f"{place}/MlpBlock_0/Dense_1")),
        )

    return [layer(f"{LAYERS}encoderblock_{index}") for index in range(num_layers)]


def norm_of(params: Mapping[str, np.ndarray], place: str) -> tuple[Array, Array]:
    """Return the scale and bias of a checkpoint's layer norm, on the device."""
    return jnp.asarray(params[f"{place}/scale"], np.float32), jnp.asarray(params[f"{place}/bias"], np.float32)


def empty_context(dim: int, dtype: Any) -> Context:
    """Return the context of what comes first."""
    return Context(*(jnp.zeros((0, dim), dtype) for _ in Context._fields))


def extend(layer: Layer, context: Context, block: Block, num_heads: int) -> tuple[Block, Context]:
    """Take a block through one layer; return it, and the context with the block's own keys and values."""
    queries, context = _attended(layer, context, block)
    num_tokens = len(block.tokens)
    x = _finish(layer, context, jnp.concatenate(block), queries, num_tokens, num_heads)
    return Block(x[:num_tokens], x[num_tokens:]), context


def remember(layer: Layer, context: Context, block: Block) -> Context:
    """Return the last layer's context with a block's keys and values; what would come out of it nobody needs."""
    dim = block.tokens.shape[-1]
    kernel, bias = layer.attend
    x = normalize(jnp.concatenate(block), *layer.norm_attention)
    return _added(context, _dense((kernel[:, dim:], bias[dim:]), x), len(block.tokens))


def answer(
    layer: Layer,
    norm: tuple[Array, Array],
    context: Context,
    block: Block,
    needed: tuple[int, ...],
    num_heads: int,
) -> Float[Array, "needed dim"]:
    """Take a block through the last layer and return the embeddings of what is `needed` of it."""
    rows, num_tokens = np.array(needed, int), len(block.tokens)
    x = jnp.concatenate(block)
    if len(rows) <= FEW:
        normed = normalize(x, *layer.norm_attention)
        seen = (num_tokens if row < num_tokens else len(x) for row in needed)
        heads = [
            _ask(layer, context, normed[row], normed[:own], row >= num_tokens, num_heads)
            for row, own in zip(needed, seen, strict=True)
        ]
        return normalize(_feed_forward(layer, x[rows] + _dense(layer.out, jnp.stack(heads))), *norm)
    queries, context = _attended(layer, context, block)
    num_tokens = int((rows < num_tokens).sum())
    return normalize(_finish(layer, context, x[rows], queries[rows], num_tokens, num_heads), *norm)


def _attended(layer: Layer, context: Context, block: Block) -> tuple[Array, Context]:
    """Return the block's queries, and the context with its keys and values."""
    dim = block.tokens.shape[-1]
    x = _dense(layer.attend, normalize(jnp.concatenate(block), *layer.norm_attention))
    return x[:, :dim], _added(context, x[:, dim:], len(block.tokens))


def _added(context: Context, keys_and_values: Array, num_tokens: int) -> Context:
    """Return the context with more keys and values; those after the first `num_tokens` are readouts'."""
    keys, values = jnp.split(keys_and_values.astype(context.keys.dtype), 2, axis=-1)
    added = (keys[:num_tokens], values[:num_tokens], keys[num_tokens:], values[num_tokens:])
    return Context(*(jnp.concatenate(pair) for pair in zip(context, added, strict=True)))


def _finish(
    layer: Layer, context: Context, x: Array, queries: Array, num_tokens: int, num_heads: int
) -> Float[Array, "rows dim"]:
    """Attend and apply the feed-forward block; the first `num_tokens` rows do not see readouts."""
    keys, values, *readouts = context
    parts = []
    if num_tokens:
        parts.append(_attend(queries[:num_tokens], keys, values, num_heads))
    if num_tokens < len(queries) <= num_tokens + FEW:
        parts += [_attend_from_one(query, context, num_heads)[None] for query in queries[num_tokens:]]
    elif num_tokens < len(queries):
        keys, values = (jnp.concatenate(pair) for pair in zip((keys, values), readouts, strict=True))
        parts.append(_attend(queries[num_tokens:], keys, values, num_heads))
    return _feed_forward(layer, x + _dense(layer.out, jnp.concatenate(parts)))


def _feed_forward(layer: Layer, x: Array) -> Array:
    hidden = jax.nn.gelu(_dense(layer.mlp[0], normalize(x, *layer.norm_mlp)), approximate=True)
    return x + _dense(layer.mlp[1], hidden)


def _attend(queries: Array, keys: Array, values: Array, num_heads: int) -> Array:
    """Attend; what is summed is divided last, where it is the size of the values and not of the weights."""
    queries = _scaled(queries, num_heads).astype(keys.dtype)
    queries, keys, values = (_by_head(array, num_heads) for array in (queries, keys, values))
    logits = jnp.einsum("qhk,thk->hqt", queries, keys, preferred_element_type=jnp.float32)
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    sums = jnp.einsum("hqt,thk->qhk", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
    return (sums / weights.sum(-1).T[:, :, None]).reshape(len(queries), -1)


def _attend_from_one(query: Float[Array, " dim"], context: Context, num_heads: int) -> Float[Array, " dim"]:
    """Attend from one token to all of a context: sums, since a product with a single row wastes most of its time."""
    query = _scaled(query, num_heads)
    logits = [_by_head(keys * query, num_heads).sum(-1) for keys in (context.keys, context.readout_keys)]
    weights = jax.nn.softmax(jnp.concatenate(logits), axis=0)
    tokens, readouts = jnp.split(weights, [len(context.keys)])
    values = _weighted(tokens, context.values, num_heads) + _weighted(readouts, context.readout_values, num_heads)
    return values.reshape(-1)


def _ask(
    layer: Layer,
    context: Context,
    own: Float[Array, " dim"],
    seen: Float[Array, "tokens dim"],
    sees_readouts: bool,
    num_heads: int,
) -> Float[Array, " dim"]:
    """Attend from one token to a context and to the tokens `seen` of its own block, whose keys nobody forms.

    A logit q (W x + b) is (q W) x + q b, and a weighted mean of values W x + b is W of the mean of x, plus b.
    """
    kernels, biases = (jnp.split(weights, 3, axis=-1) for weights in layer.attend)
    query = _scaled(_dense((kernels[0], biases[0]), own), num_heads)
    asked = jnp.einsum("hk,dhk->dh", _by_head(query, num_heads), _by_head(kernels[1], num_heads))
    logits = [seen @ asked + _by_head(query * biases[1], num_heads).sum(-1)]
    kept = [(context.keys, context.values), (context.readout_keys, context.readout_values)][: 1 + sees_readouts]
    logits += [_by_head(keys * query, num_heads).sum(-1) for keys, _ in kept]
    ends = np.cumsum([len(part) for part in logits])[:-1]
    weights, *others = jnp.split(jax.nn.softmax(jnp.concatenate(logits), axis=0), ends)
    values = jnp.einsum("hd,dhk->hk", weights.T @ seen, _by_head(kernels[2], num_heads))
    values += weights.sum(0)[:, None] * _by_head(biases[2], num_heads)
    for part, (_, kept_values) in zip(others, kept, strict=True):
        values += _weighted(part, kept_values, num_heads)
    return values.reshape(-1)


def _weighted(weights: Float[Array, "tokens heads"], values: Float[Array, "tokens dim"], num_heads: int) -> Array:
    return (weights[:, :, None] * _by_head(values, num_heads)).sum(0)


def _by_head(array: Float[Array, "*batch dim"], num_heads: int) -> Float[Array, "*batch heads head_dim"]:
    return array.reshape(*array.shape[:-1], num_heads, array.shape[-1] // num_heads)


def _scaled(queries: Array, num_heads: int) -> Array:
    return queries / (queries.shape[-1] // num_heads) ** 0.5


def _dense(weights: tuple[Array, Array], x: Array) -> Array:
    kernel, bias = weights
    return jnp.dot(x.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32) + bias

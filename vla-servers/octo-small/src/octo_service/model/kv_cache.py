"""Octo one timestep at a time: what the task and earlier timesteps contribute is computed once and kept.

Attention is causal over blocks: the task sees itself; a timestep sees the task, the timesteps before it and itself
(octo/model/components/block_transformer.py of octo-models/octo). So each block's keys and values, layer by layer, are a
`Context` for those that come after, whatever these are. Tokens that nobody sees are left out of it: groups that are
masked, and readouts of other heads. The results are those of `Octo.run_transformer`, rounded elsewhere.

All arrays are of one item: a batch is many of them (`jax.vmap`).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from octo_service.model.attention_mask import Group, group_names
from octo_service.model.transformer import normalize

LAYERS = "octo_transformer/BlockTransformer_0/Transformer_0/"
# So few tokens ask the last layer one by one.
FEW = 4


class Layer(NamedTuple):
    """One encoder block's weights, those of query, key and value side by side; queries come out divided for logits."""

    norm_attention: tuple[Array, Array]
    attend: tuple[Float[Array, "dim 3*dim"], Float[Array, " 3*dim"]]
    out: tuple[Float[Array, "dim dim"], Float[Array, " dim"]]
    norm_mlp: tuple[Array, Array]
    mlp: tuple[tuple[Array, Array], tuple[Array, Array]]


class Context(NamedTuple):
    """One layer's keys and values of all blocks so far: of tokens that all see, and of those that readouts see.

    A value ends with a one: the product that weighs the values also sums the weights, which XLA then does in one piece.
    """

    keys: Float[Array, "heads tokens head_dim"]
    values: Float[Array, "heads tokens head_dim+1"]
    readout_keys: Float[Array, "heads readouts head_dim"]
    readout_values: Float[Array, "heads readouts head_dim+1"]


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
    """Lay out the weights of every encoder block of a checkpoint for `extend` and `read_out`, on the device.

    Kernels are of `dtype`, and so is what is multiplied with them; sums and all else are float32.
    """

    def dense(place: str) -> tuple[Array, Array]:
        return jnp.asarray(params[f"{place}/kernel"], dtype), jnp.asarray(params[f"{place}/bias"], np.float32)

    def layer(place: str) -> Layer:
        attention = f"{place}/MultiHeadDotProductAttention_0"
        dim = params[f"{attention}/out/bias"].shape[0]
        parts = [f"{attention}/{name}" for name in ("query", "key", "value")]
        head_dim = params[f"{attention}/query/kernel"].shape[-1]
        scale = np.repeat(np.array([head_dim**-0.5, 1, 1], np.float32), dim)
        kernels = np.concatenate([np.asarray(params[f"{part}/kernel"]).reshape(dim, dim) for part in parts], axis=1)
        biases = np.concatenate([np.asarray(params[f"{part}/bias"]).reshape(dim) for part in parts])
        out = np.asarray(params[f"{attention}/out/kernel"]).reshape(dim, dim)
        return Layer(
            norm_attention=norm_of(params, f"{place}/LayerNorm_0"),
            attend=(jnp.asarray(kernels * scale, dtype), jnp.asarray(biases * scale, np.float32)),
            out=(jnp.asarray(out, dtype), jnp.asarray(params[f"{attention}/out/bias"], np.float32)),
            norm_mlp=norm_of(params, f"{place}/LayerNorm_1"),
            mlp=(dense(f"{place}/MlpBlock_0/Dense_0"), dense(f"{place}/MlpBlock_0/Dense_1")),
        )

    return [layer(f"{LAYERS}encoderblock_{index}") for index in range(num_layers)]


def norm_of(params: Mapping[str, np.ndarray], place: str) -> tuple[Array, Array]:
    """Return the scale and bias of a checkpoint's layer norm, on the device."""
    return jnp.asarray(params[f"{place}/scale"], np.float32), jnp.asarray(params[f"{place}/bias"], np.float32)


def empty_context(num_heads: int, head_dim: int, dtype: Any) -> Context:
    """Return the context of what comes first."""
    nothing = jnp.zeros((num_heads, 0, head_dim), dtype), jnp.zeros((num_heads, 0, head_dim + 1), dtype)
    return Context(*nothing, *nothing)


def extend(layer: Layer, context: Context, block: Block) -> tuple[Block, Context]:
    """Take a block through one layer; return it, and the context with the block's own keys and values."""
    num_tokens = len(block.tokens)
    x = jnp.concatenate(block)
    queries, context = _attended(layer, context, x, num_tokens)
    x = _finish(layer, context, x, queries, num_tokens)
    return Block(x[:num_tokens], x[num_tokens:]), context


def remember(layer: Layer, context: Context, block: Block) -> Context:
    """Return the last layer's context with a block's keys and values; what would come out of it nobody needs."""
    return _attended(layer, context, jnp.concatenate(block), len(block.tokens))[1]


def read_out(
    layers: Sequence[Layer],
    norm: tuple[Array, Array],
    contexts: Sequence[Context],
    block: Block,
    needed: tuple[int, ...],
) -> Float[Array, "needed dim"]:
    """Take a block through all layers and return the embeddings of what is `needed` of it."""
    for layer, context in zip(layers[:-1], contexts[:-1], strict=True):
        block, _ = extend(layer, context, block)
    layer, context, rows, num_tokens = layers[-1], contexts[-1], np.array(needed, int), len(block.tokens)
    x = jnp.concatenate(block)
    if len(rows) <= FEW:
        normed = normalize(x, *layer.norm_attention)
        seen = (num_tokens if row < num_tokens else len(x) for row in needed)
        heads = [
            _ask(layer, context, normed[row], normed[:own], row >= num_tokens)
            for row, own in zip(needed, seen, strict=True)
        ]
        return normalize(_feed_forward(layer, x[rows] + _dense(layer.out, jnp.stack(heads))), *norm)
    queries, context = _attended(layer, context, x, num_tokens)
    num_tokens = int((rows < num_tokens).sum())
    return normalize(_finish(layer, context, x[rows], queries[:, rows], num_tokens), *norm)


def _attended(
    layer: Layer, context: Context, x: Float[Array, "rows dim"], num_tokens: int
) -> tuple[Float[Array, "heads rows head_dim"], Context]:
    """Return the queries of a block, and the context with its keys and values.

    Rows after the first `num_tokens` are readouts.
    """
    projected = _dense(layer.attend, normalize(x, *layer.norm_attention))
    queries, keys, values = (_by_head(part, len(context.keys)) for part in jnp.split(projected, 3, axis=-1))
    values = jnp.pad(values, ((0, 0), (0, 0), (0, 1)), constant_values=1)
    added = (keys[:, :num_tokens], values[:, :num_tokens], keys[:, num_tokens:], values[:, num_tokens:])
    pairs = zip(context, added, strict=True)
    return queries, Context(*(jnp.concatenate([old, new.astype(old.dtype)], axis=1) for old, new in pairs))


def _finish(
    layer: Layer, context: Context, x: Array, queries: Float[Array, "heads rows head_dim"], num_tokens: int
) -> Float[Array, "rows dim"]:
    """Attend and apply the feed-forward block; the first `num_tokens` rows do not see readouts."""
    seen_by_all, readouts = context[:2], context[2:]
    parts = []
    if num_tokens:
        parts.append(_attend(queries[:, :num_tokens], [seen_by_all]))
    if num_tokens < len(x):
        parts.append(_attend(queries[:, num_tokens:], [seen_by_all, readouts]))
    attended = jnp.concatenate(parts, axis=1).swapaxes(0, 1).reshape(len(x), -1)
    return _feed_forward(layer, x + _dense(layer.out, attended))


def _feed_forward(layer: Layer, x: Array) -> Array:
    hidden = jax.nn.gelu(_dense(layer.mlp[0], normalize(x, *layer.norm_mlp)), approximate=True)
    return x + _dense(layer.mlp[1], hidden)


def _attend(
    queries: Float[Array, "heads rows head_dim"], seen: Sequence[tuple[Array, Array]]
) -> Float[Array, "heads rows head_dim"]:
    """Attend to keys and values, in parts; what is summed is divided last, where it is the size of the values."""
    multiply = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
    logits = [multiply(queries.astype(keys.dtype), keys.swapaxes(1, 2)) for keys, _ in seen]
    most = functools.reduce(jnp.maximum, [part.max(-1, keepdims=True, initial=-jnp.inf) for part in logits])
    weighed = [
        multiply(jnp.exp(part - most).astype(values.dtype), values)
        for part, (_, values) in zip(logits, seen, strict=True)
    ]
    summed = functools.reduce(jnp.add, weighed)
    return summed[..., :-1] / summed[..., -1:]


def _ask(
    layer: Layer, context: Context, own: Float[Array, " dim"], seen: Float[Array, "tokens dim"], sees_readouts: bool
) -> Float[Array, " dim"]:
    """Attend from one token to a context and to the tokens `seen` of its own block, whose keys nobody forms.

    A logit q (W x + b) is (q W) x + q b, and a weighted mean of values W x + b is W of the mean of x, plus b.
    """
    num_heads = len(context.keys)
    kernels, biases = (jnp.split(weights, 3, axis=-1) for weights in layer.attend)
    query = _by_head(_dense((kernels[0], biases[0]), own[None]), num_heads)  # (heads, 1, head_dim)
    key_bias, value_bias = (_by_head(bias[None], num_heads) for bias in biases[1:])
    asked = (_by_head(kernels[1], num_heads) * query).sum(-1)
    logits = [asked @ seen.T + (query * key_bias).sum(-1)]
    kept = [(context.keys, context.values), (context.readout_keys, context.readout_values)][: 1 + sees_readouts]
    logits += [(keys * query).sum(-1) for keys, _ in kept]
    ends = np.cumsum([part.shape[1] for part in logits])[:-1]
    weights, *others = jnp.split(jax.nn.softmax(jnp.concatenate(logits, axis=1), axis=1), ends, axis=1)
    values = ((weights @ seen)[:, :, None] * _by_head(kernels[2], num_heads)).sum(1)
    values += weights.sum(1, keepdims=True) * value_bias[:, 0]
    for part, (_, kept_values) in zip(others, kept, strict=True):
        values += (part[:, :, None] * kept_values[..., :-1]).sum(1)
    return values.reshape(-1)


def _by_head(array: Float[Array, "rows dim"], num_heads: int) -> Float[Array, "heads rows head_dim"]:
    return array.reshape(len(array), num_heads, -1).swapaxes(0, 1)


def _dense(weights: tuple[Array, Array], x: Array) -> Array:
    kernel, bias = weights
    return jnp.dot(x.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32) + bias

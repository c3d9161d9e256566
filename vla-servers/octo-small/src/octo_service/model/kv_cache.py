"""The KV cache: the keys and values of the task and of earlier timesteps, computed once and kept.

Attention is causal over blocks: the task attends to itself; a timestep attends to the task, to earlier timesteps and to
itself (octo/model/components/block_transformer.py of octo-models/octo). A block's keys and values therefore serve every
block after it. Tokens that nothing attends to are not cached: masked groups, and readouts of other heads. The results
are those of `Octo.run_transformer`, rounded in another order.

All arrays are of one item: for a batch, map over them (`jax.vmap`).
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from octo_service.model.layer_weights import Layer
from octo_service.model.transformer import normalize

MAX_SINGLE_QUERIES = 4
"""Up to this many tokens that are read attend one by one in the last layer, which forms no keys for their block."""


class KVCache(NamedTuple):
    """One layer's keys and values of all blocks so far: of tokens, and of readouts, to which only readouts attend.

    Each value ends with a one: the product that weighs the values then also sums the weights, in one XLA operation.
    """

    keys: Float[Array, "heads tokens head_dim"]
    values: Float[Array, "heads tokens head_dim+1"]
    readout_keys: Float[Array, "heads readouts head_dim"]
    readout_values: Float[Array, "heads readouts head_dim+1"]


class Block(NamedTuple):
    """The tokens of the task or of one timestep, and its readouts, to which only readouts attend."""

    tokens: Float[Array, "tokens dim"]
    readouts: Float[Array, "readouts dim"]


def empty_cache(num_heads: int, head_dim: int, dtype: Any) -> KVCache:
    """Return the cache before the first block."""
    empty = jnp.zeros((num_heads, 0, head_dim), dtype), jnp.zeros((num_heads, 0, head_dim + 1), dtype)
    return KVCache(*empty, *empty)


def prefill(layer: Layer, cache: KVCache, block: Block) -> tuple[Block, KVCache]:
    """Take a block through one layer; return it, and the cache with the block's keys and values appended."""
    num_tokens = len(block.tokens)
    x = jnp.concatenate(block)
    queries, cache = _project(layer, cache, x, num_tokens)
    x = _attend_and_feed_forward(layer, cache, x, queries, num_tokens)
    return Block(x[:num_tokens], x[num_tokens:]), cache


def append(layer: Layer, cache: KVCache, block: Block) -> KVCache:
    """Append a block's keys and values: all that `prefill` does in the last layer, whose output nothing reads."""
    return _project(layer, cache, jnp.concatenate(block), len(block.tokens))[1]


def read_out(
    layers: Sequence[Layer],
    norm: tuple[Array, Array],
    caches: Sequence[KVCache],
    block: Block,
    read: tuple[int, ...],
) -> Float[Array, "read dim"]:
    """Take a block through all layers and return the embeddings of the tokens that are `read`."""
    for layer, cache in zip(layers[:-1], caches[:-1], strict=True):
        block, _ = prefill(layer, cache, block)
    return normalize(_last_layer(layers[-1], caches[-1], block, read), *norm)


def _last_layer(layer: Layer, cache: KVCache, block: Block, read: tuple[int, ...]) -> Float[Array, "read dim"]:
    x, rows, num_tokens = jnp.concatenate(block), np.array(read, int), len(block.tokens)
    if len(rows) <= MAX_SINGLE_QUERIES:
        normed = normalize(x, *layer.norm_attention)
        visible = (num_tokens if row < num_tokens else len(x) for row in read)
        heads = [
            _attend_one(layer, cache, normed[row], normed[:end], row >= num_tokens)
            for row, end in zip(read, visible, strict=True)
        ]
        return _feed_forward(layer, x[rows] + _dense(layer.out, jnp.stack(heads)))
    queries, cache = _project(layer, cache, x, num_tokens)
    num_tokens = int((rows < num_tokens).sum())
    return _attend_and_feed_forward(layer, cache, x[rows], queries[:, rows], num_tokens)


def _project(
    layer: Layer, cache: KVCache, x: Float[Array, "rows dim"], num_tokens: int
) -> tuple[Float[Array, "heads rows head_dim"], KVCache]:
    """Return the queries of a block, and the cache with its keys and values.

    Rows after the first `num_tokens` are readouts.
    """
    projected = _dense(layer.attend, normalize(x, *layer.norm_attention))
    queries, keys, values = (_by_head(part, len(cache.keys)) for part in jnp.split(projected, 3, axis=-1))
    values = jnp.pad(values, ((0, 0), (0, 0), (0, 1)), constant_values=1)
    added = (keys[:, :num_tokens], values[:, :num_tokens], keys[:, num_tokens:], values[:, num_tokens:])
    pairs = zip(cache, added, strict=True)
    return queries, KVCache(*(jnp.concatenate([old, new.astype(old.dtype)], axis=1) for old, new in pairs))


def _attend_and_feed_forward(
    layer: Layer, cache: KVCache, x: Array, queries: Float[Array, "heads rows head_dim"], num_tokens: int
) -> Float[Array, "rows dim"]:
    """Attend and apply the feed-forward block; the first `num_tokens` rows do not attend to readouts."""
    tokens, readouts = cache[:2], cache[2:]
    parts = []
    if num_tokens:
        parts.append(_attend(queries[:, :num_tokens], [tokens]))
    if num_tokens < len(x):
        parts.append(_attend(queries[:, num_tokens:], [tokens, readouts]))
    attended = jnp.concatenate(parts, axis=1).swapaxes(0, 1).reshape(len(x), -1)
    return _feed_forward(layer, x + _dense(layer.out, attended))


def _feed_forward(layer: Layer, x: Array) -> Array:
    hidden = jax.nn.gelu(_dense(layer.mlp[0], normalize(x, *layer.norm_mlp)), approximate=True)
    return x + _dense(layer.mlp[1], hidden)


def _attend(
    queries: Float[Array, "heads rows head_dim"], pairs: Sequence[tuple[Array, Array]]
) -> Float[Array, "heads rows head_dim"]:
    """Attend to pairs of keys and values; the softmax divides last, on an array of the values' size."""
    multiply = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
    logits = [multiply(queries.astype(keys.dtype), keys.swapaxes(1, 2)) for keys, _ in pairs]
    most = functools.reduce(jnp.maximum, [part.max(-1, keepdims=True, initial=-jnp.inf) for part in logits])
    weighed = [
        multiply(jnp.exp(part - most).astype(values.dtype), values)
        for part, (_, values) in zip(logits, pairs, strict=True)
    ]
    summed = functools.reduce(jnp.add, weighed)
    return summed[..., :-1] / summed[..., -1:]


def _attend_one(
    layer: Layer, cache: KVCache, token: Float[Array, " dim"], block: Float[Array, "tokens dim"], sees_readouts: bool
) -> Float[Array, " dim"]:
    """Attend from one token to the cache and to the tokens of its own block, without forming the block's keys.

    A logit q (W x + b) is (q W) x + q b, and a weighted mean of values W x + b is W of the mean of x, plus b.
    """
    num_heads = len(cache.keys)
    kernels, biases = (jnp.split(weights, 3, axis=-1) for weights in layer.attend)
    query = _by_head(_dense((kernels[0], biases[0]), token[None]), num_heads)  # (heads, 1, head_dim)
    key_bias, value_bias = (_by_head(bias[None], num_heads) for bias in biases[1:])
    key_query = (_by_head(kernels[1], num_heads) * query).sum(-1)
    logits = [key_query @ block.T + (query * key_bias).sum(-1)]
    cached = [(cache.keys, cache.values), (cache.readout_keys, cache.readout_values)][: 1 + sees_readouts]
    logits += [(keys * query).sum(-1) for keys, _ in cached]
    ends = np.cumsum([part.shape[1] for part in logits])[:-1]
    weights, *others = jnp.split(jax.nn.softmax(jnp.concatenate(logits, axis=1), axis=1), ends, axis=1)
    values = ((weights @ block)[:, :, None] * _by_head(kernels[2], num_heads)).sum(1)
    values += weights.sum(1, keepdims=True) * value_bias[:, 0]
    for part, (_, cached_values) in zip(others, cached, strict=True):
        values += (part[:, :, None] * cached_values[..., :-1]).sum(1)
    return values.reshape(-1)


def _by_head(array: Float[Array, "rows dim"], num_heads: int) -> Float[Array, "heads rows head_dim"]:
    return array.reshape(len(array), num_heads, -1).swapaxes(0, 1)


def _dense(weights: tuple[Array, Array], x: Array) -> Array:
    kernel, bias = weights
    return jnp.dot(x.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32) + bias

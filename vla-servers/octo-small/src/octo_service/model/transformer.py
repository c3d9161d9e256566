"""The transformer's layers as functions over the parameter tree.

Follows octo/model/components/transformer.py of octo-models/octo and the flax 0.7.5 layers it is built of.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from octo_service.model.parameters import Parameters


def dense(parameters: Parameters, x: Float[Array, "*batch inputs"], features: int) -> Float[Array, "*batch outputs"]:
    """Apply one fully connected layer."""
    return x @ parameters.get("kernel", x.shape[-1], features) + parameters.get("bias", features)


def layer_norm(parameters: Parameters, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """Normalize over the last axis, then scale and shift."""
    return normalize(x, parameters.get("scale", x.shape[-1]), parameters.get("bias", x.shape[-1]))


def normalize(
    x: Float[Array, "*batch dim"], scale: Float[Array, " dim"], bias: Float[Array, " dim"]
) -> Float[Array, "*batch dim"]:
    """Normalize over the last axis; eps 1e-6 and variance E[x²] - E[x]², as flax computes it."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum(0.0, jnp.square(x).mean(-1, keepdims=True) - jnp.square(mean))
    return (x - mean) * (jax.lax.rsqrt(variance + 1e-6) * scale) + bias


def attention(
    parameters: Parameters,
    queries: Float[Array, "batch queries dim"],
    keys: Float[Array, "batch keys dim"],
    mask: Bool[Array, "#batch #queries keys"] | None,
    num_heads: int,
    dropout_rate: float = 0.0,
) -> Float[Array, "batch queries dim"]:
    """Attend from `queries` to `keys` where `mask` is True (flax's MultiHeadDotProductAttention).

    A row with nothing to attend to is uniform over all keys, as in the reference: masked logits are set to
    the lowest float, not to minus infinity.
    """
    dim = queries.shape[-1]
    head_dim = dim // num_heads

    def heads(name: str, x: Array) -> Array:
        place = parameters / name
        kernel = place.get("kernel", dim, num_heads, head_dim)
        return jnp.einsum("btd,dhk->bthk", x, kernel) + place.get("bias", num_heads, head_dim)

    query = heads("query", queries) / head_dim**0.5
    logits = jnp.einsum("bqhk,bthk->bhqt", query, heads("key", keys))
    if mask is not None:
        logits = jnp.where(mask[:, None], logits, jnp.finfo(logits.dtype).min)
    weights = parameters.dropout("", jax.nn.softmax(logits), dropout_rate)
    values = jnp.einsum("bhqt,bthk->bqhk", weights, heads("value", keys))
    out = parameters / "out"
    return jnp.einsum("bqhk,hkd->bqd", values, out.get("kernel", num_heads, head_dim, dim)) + out.get("bias", dim)


def mlp_block(
    parameters: Parameters, x: Float[Array, "*batch dim"], mlp_dim: int, dropout_rate: float
) -> Float[Array, "*batch dim"]:
    """Apply the feed-forward block: dense, gelu (tanh form), dense."""
    hidden = jax.nn.gelu(dense(parameters / "Dense_0", x, mlp_dim), approximate=True)
    hidden = parameters.dropout("Dropout_0", hidden, dropout_rate)
    return parameters.dropout("Dropout_1", dense(parameters / "Dense_1", hidden, x.shape[-1]), dropout_rate)


def attention_pool(
    parameters: Parameters,
    tokens: Float[Array, "batch window tokens dim"],
    mask: Bool[Array, "batch window tokens"] | None,
    num_readouts: int,
) -> Float[Array, "batch window readouts dim"]:
    """Pool tokens by learned probes that attend to them (the reference's MAPHead, 8 heads).

    Its MLP drops at 0.1 in training, not at the config's rate: the reference leaves it at its default.
    """
    batch, window, num_tokens, dim = tokens.shape
    tokens = tokens.reshape(batch * window, num_tokens, dim)
    probe = jnp.tile(parameters.get("probe", 1, num_readouts, dim), (batch * window, 1, 1))
    if mask is not None:
        mask = mask.reshape(batch * window, 1, num_tokens)
    pooled = attention(parameters / "MultiHeadDotProductAttention_0", probe, tokens, mask, num_heads=8)
    normed = layer_norm(parameters / "LayerNorm_0", pooled)
    pooled = pooled + mlp_block(parameters / "MlpBlock_0", normed, 4 * dim, dropout_rate=0.1)
    return pooled.reshape(batch, window, num_readouts, dim)


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A stack of pre-norm encoder blocks; fields are `transformer_kwargs` of a checkpoint's config."""

    num_layers: int
    mlp_dim: int
    num_attention_heads: int
    dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.1
    add_position_embedding: bool = False

    def __call__(
        self,
        parameters: Parameters,
        tokens: Float[Array, "batch tokens dim"],
        mask: Bool[Array, "batch tokens tokens"],
    ) -> Float[Array, "batch tokens dim"]:
        """Return the embedding of every token; `mask[b, i, j]` says whether i attends to j."""

        def block(place: Parameters, tokens: Array) -> Array:
            x = layer_norm(place / "LayerNorm_0", tokens)
            attend = place / "MultiHeadDotProductAttention_0"
            x = attention(attend, x, x, mask, self.num_attention_heads, self.attention_dropout_rate)
            tokens = tokens + place.dropout("Dropout_0", x, self.dropout_rate)
            x = layer_norm(place / "LayerNorm_1", tokens)
            return tokens + mlp_block(place / "MlpBlock_0", x, self.mlp_dim, self.dropout_rate)

        tokens = parameters.fold("encoderblock_{}", self.num_layers, block, tokens)
        return layer_norm(parameters / "encoder_norm", tokens)

"""The T5 text encoder, over the parameter names of a checkpoint of the reference.

Raffel et al. 2020, section 2.1; matches transformers' FlaxT5EncoderModel (float32, relu, no dropout).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from octo_service.errors import ModelConfigError
from octo_service.model.parameters import Parameters

ROOT = "octo_transformer/task_tokenizers_language/hf_model/"
EMBEDDING = ROOT + "shared/embedding"
# In the first block, for all.
RELATIVE = "layer/0/SelfAttention/relative_attention_bias/embedding"
NUM_BUCKETS = 32
MAX_DISTANCE = 128


@dataclass(frozen=True, kw_only=True)
class T5Sizes:
    """The sizes of one text encoder; the defaults are t5-base's."""

    vocabulary: int = 32128
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    head_dim: int = 64
    mlp_dim: int = 3072


def sizes_of(shapes: Mapping[str, tuple[int, ...]]) -> T5Sizes | None:
    """Read the encoder's sizes off its parameters; None if the checkpoint has no text encoder."""
    encoder = {path[len(ROOT) :]: shape for path, shape in shapes.items() if path.startswith(ROOT)}
    if not encoder:
        return None
    block = "encoder/block/0/layer/"
    try:
        vocabulary, dim = encoder["shared/embedding"]
        _, num_heads = encoder[f"encoder/block/0/{RELATIVE}"]
        return T5Sizes(
            vocabulary=vocabulary,
            dim=dim,
            num_layers=1 + max(_block_numbers(encoder)),
            num_heads=num_heads,
            head_dim=encoder[block + "0/SelfAttention/q/kernel"][1] // num_heads,
            mlp_dim=encoder[block + "1/DenseReluDense/wi/kernel"][1],
        )
    except KeyError as error:
        raise ModelConfigError(
            f"the text encoder has no parameter {error}", hint="only T5 with a relu MLP is known (t5-small to t5-11b)"
        ) from error


def _block_numbers(names: Iterable[str]) -> Iterable[int]:
    matches = (re.match(r"encoder/block/(\d+)/", name) for name in names)
    return [int(match[1]) for match in matches if match]


def encode(
    parameters: Parameters,
    embeddings: Float[Array, "batch tokens dim"],
    attention_mask: Int[Array, "batch tokens"],
    sizes: T5Sizes,
) -> Float[Array, "batch tokens dim"]:
    """Return the encoder's last hidden state for embedded text tokens; masked tokens are attended by none."""
    place = parameters / "encoder"
    bias = attention_bias(place / "block" / "0", attention_mask, sizes)
    x = place.fold("block/{}", sizes.num_layers, lambda block, x: through_block(block, x, bias, sizes), embeddings)
    return rms_norm(place / "final_layer_norm", x)


def attention_bias(
    first_block: Parameters, attention_mask: Int[Array, "batch tokens"], sizes: T5Sizes
) -> Float[Array, "batch heads tokens tokens"]:
    """Return what every block adds to its logits: by relative position, which the first block knows, and for masks."""
    buckets = _relative_buckets(attention_mask.shape[1])
    table = first_block.get(RELATIVE, NUM_BUCKETS, sizes.num_heads)
    bias = table[buckets].transpose(2, 0, 1)[None]
    return bias + jnp.where(attention_mask[:, None, None] > 0, 0.0, jnp.finfo(jnp.float32).min)


def through_block(
    block: Parameters,
    x: Float[Array, "batch tokens dim"],
    bias: Float[Array, "batch heads tokens tokens"],
    sizes: T5Sizes,
) -> Float[Array, "batch tokens dim"]:
    """Take tokens through one block, whose place is `block`."""
    attend, mlp = block / "layer" / "0", block / "layer" / "1"
    x = x + _attend(attend / "SelfAttention", rms_norm(attend / "layer_norm", x), bias, sizes)
    return x + _mlp(mlp / "DenseReluDense", rms_norm(mlp / "layer_norm", x), sizes)


def _attend(parameters: Parameters, x: Array, bias: Array, sizes: T5Sizes) -> Array:
    width = sizes.num_heads * sizes.head_dim

    def heads(name: str) -> Array:
        kernel = (parameters / name).get("kernel", sizes.dim, width)
        return (x @ kernel).reshape(*x.shape[:2], sizes.num_heads, sizes.head_dim)

    # T5 folds 1 / sqrt(head_dim) into its initialization, so the logits are not scaled here.
    logits = jnp.einsum("bqhk,bthk->bhqt", heads("q"), heads("k")) + bias
    values = jnp.einsum("bhqt,bthk->bqhk", jax.nn.softmax(logits), heads("v"))
    return values.reshape(*x.shape[:2], width) @ (parameters / "o").get("kernel", width, sizes.dim)


def _mlp(parameters: Parameters, x: Array, sizes: T5Sizes) -> Array:
    hidden = jax.nn.relu(x @ (parameters / "wi").get("kernel", sizes.dim, sizes.mlp_dim))
    return hidden @ (parameters / "wo").get("kernel", sizes.mlp_dim, sizes.dim)


def rms_norm(parameters: Parameters, x: Array) -> Array:
    """Scale to a root mean square of one, and by the weights."""
    scale = jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
    return x * scale * parameters.get("weight", x.shape[-1])


def _relative_buckets(num_tokens: int) -> Int[np.ndarray, "queries keys"]:
    """Return the bucket of each key's position relative to each query: exact when near, logarithmic when far."""
    offset = np.arange(num_tokens)[None] - np.arange(num_tokens)[:, None]
    half, exact = NUM_BUCKETS // 2, NUM_BUCKETS // 4
    distance = np.abs(offset)
    far = np.log(np.maximum(distance, 1) / exact) / np.log(MAX_DISTANCE / exact) * (half - exact)
    bucket = np.where(distance < exact, distance, np.minimum(exact + far.astype(int), half - 1))
    return np.where(offset > 0, half, 0) + bucket

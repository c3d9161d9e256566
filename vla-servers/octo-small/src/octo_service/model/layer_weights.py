"""The weights of the encoder blocks, laid out for one timestep at a time."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LAYERS = "octo_transformer/BlockTransformer_0/Transformer_0/"


class Layer(NamedTuple):
    """One encoder block's weights; query, key and value are one product, with the queries scaled for the logits."""

    norm_attention: tuple[Array, Array]
    attend: tuple[Float[Array, "dim 3*dim"], Float[Array, " 3*dim"]]
    out: tuple[Float[Array, "dim dim"], Float[Array, " dim"]]
    norm_mlp: tuple[Array, Array]
    mlp: tuple[tuple[Array, Array], tuple[Array, Array]]


def layer_weights(params: Mapping[str, np.ndarray], num_layers: int, dtype: Any) -> list[Layer]:
    """Copy the weights of every encoder block of a checkpoint to the device.

    Kernels and the numbers that they multiply are of `dtype`; sums and everything else are float32.
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
            norm_attention=norm_weights(params, f"{place}/LayerNorm_0"),
            attend=(jnp.asarray(kernels * scale, dtype), jnp.asarray(biases * scale, np.float32)),
            out=(jnp.asarray(out, dtype), jnp.asarray(params[f"{attention}/out/bias"], np.float32)),
            norm_mlp=norm_weights(params, f"{place}/LayerNorm_1"),
            mlp=(dense(f"{place}/MlpBlock_0/Dense_0"), dense(f"{place}/MlpBlock_0/Dense_1")),
        )

    return [layer(f"{LAYERS}encoderblock_{index}") for index in range(num_layers)]


def norm_weights(params: Mapping[str, np.ndarray], place: str) -> tuple[Array, Array]:
    """Return the scale and bias of a checkpoint's layer norm, on the device."""
    return jnp.asarray(params[f"{place}/scale"], np.float32), jnp.asarray(params[f"{place}/bias"], np.float32)

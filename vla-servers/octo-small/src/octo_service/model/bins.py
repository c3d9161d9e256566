"""Numbers to bins and back, as discrete heads and discretized proprio have them."""

import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int


def bin_thresholds(num_bins: int, bin_type: str, low: float, high: float) -> Float[Array, " edges"]:
    """Return the edges of the bins: evenly spaced, or of equal probability under a normal distribution."""
    if bin_type == "uniform":
        return jnp.linspace(low, high, num_bins + 1)
    return norm.ppf(jnp.linspace(1e-6, 1 - 1e-6, num_bins + 1))


def bin_tokens(
    numbers: Float[Array, "*batch"], num_bins: int, bin_type: str, low: float, high: float
) -> Int[Array, "*batch"]:
    """Return the bin each number falls in; uniform bins take in what lies outside of them.

    A number outside of normal bins falls in bin 0, on either side, as in the reference.
    """
    if bin_type == "uniform":
        numbers = jnp.clip(numbers, low + 1e-6, high - 1e-6)
    edges = bin_thresholds(num_bins, bin_type, low, high)
    inside = (numbers[..., None] >= edges[:-1]) & (numbers[..., None] < edges[1:])
    return jnp.argmax(inside, axis=-1)


def bin_values(tokens: Int[Array, "*batch"], thresholds: Float[Array, " edges"]) -> Float[Array, "*batch"]:
    """Return the middle of each bin."""
    return ((thresholds[1:] + thresholds[:-1]) / 2)[tokens]

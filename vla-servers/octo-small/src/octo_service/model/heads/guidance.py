"""Guidance of a diffusion head towards the chunk that a robot is executing.

Follows Real-Time Execution of Action Chunking Flow Policies (Black et al. 2025), equations 2 to 5, whose correction is
the pseudo-inverse guidance of Song et al. 2023. Here it moves the clean chunk that a step of DDPM estimates.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

MAX_GUIDANCE = 5.0
"""The paper's bound (its beta) on how much a correction is amplified, where a step has little but noise."""


class Guide(NamedTuple):
    """The chunk to end near, and how much each of its numbers counts: 1 freezes it, 0 leaves it free."""

    target: Float[Array | np.ndarray, "batch numbers"]
    weights: Float[Array | np.ndarray, "batch numbers"]


def prefix_weights(inference_delay: int, execution_horizon: int, horizon: int) -> Float[np.ndarray, " horizon"]:
    """Return how much each row of the old chunk counts (equation 5): 1, then falling, 0 from `execution_horizon` on."""
    rows = np.arange(horizon)
    falling = np.clip((execution_horizon - rows) / (execution_horizon - inference_delay + 1), 0, 1)
    weights = np.where(rows < inference_delay, 1, falling * np.expm1(falling) / np.expm1(1))
    return weights.astype(np.float32)


def guided_noise(
    predict_noise: Callable[[Array], Array],
    x: Float[Array, "*samples batch numbers"],
    kept: Float[Array, ""],
    guide: Guide,
    max_action: float,
) -> Float[Array, "*samples batch numbers"]:
    """Return the noise to remove from `x`, of whose square a share of `kept` is the chunk's and the rest noise.

    The frozen numbers of the clean chunk that it implies are the guide's, and the others move to where the policy
    finds a chunk likely that comes closer to the guide.
    """

    def clean(x: Array) -> tuple[Array, tuple[Array, Array]]:
        noise = predict_noise(x)
        estimate = (x - jnp.sqrt(1 - kept) * noise) / jnp.sqrt(kept)
        return jnp.clip(estimate, -max_action, max_action), (noise, estimate)

    clipped, pull, (noise, estimate) = jax.vjp(clean, x, has_aux=True)
    (correction,) = pull(guide.weights * (guide.target - clipped))
    correction = jnp.minimum(1 / jnp.sqrt(kept), MAX_GUIDANCE) * correction
    correction = jnp.where(guide.weights == 1, guide.target - estimate, correction)
    return noise - jnp.sqrt(kept / (1 - kept)) * correction

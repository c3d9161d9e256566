"""A batch in equal parts, one after the other: the same loss and gradient as of the whole, in less memory."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from octo_service.model.parameters import Part
from octo_service.training.losses import Batch, DiffusionDraws, real_actions, weight_of

Sums = TypeVar("Sums")


def summed(
    of_part: Callable[[Batch, DiffusionDraws | None, Part, Array], Sums],
    batch: Batch,
    draws: DiffusionDraws | None,
    num_parts: int,
) -> Sums:
    """Return the sum over all parts of `of_part(batch, draws, part, share)`.

    `share` is what a part's mean over the actions that are learnt from counts in the mean over the whole batch's.
    """
    in_parts = jax.tree_util.tree_map(lambda leaf: jnp.reshape(leaf, (num_parts, -1, *leaf.shape[1:])), batch)
    drawn = None if draws is None else DiffusionDraws(*(_draws_in_parts(leaf, num_parts) for leaf in draws))
    real = real_actions(batch)
    shares = weight_of(real.reshape(num_parts, -1, *real.shape[1:])) / (num_parts * weight_of(real))

    def compute(index: Array) -> Sums:
        one, its_draws = jax.tree_util.tree_map(lambda leaf: leaf[index], (in_parts, drawn))
        return of_part(one, its_draws, Part(index, num_parts), shares[index])

    def add(sums: Sums, index: Array) -> tuple[Sums, None]:
        return jax.tree_util.tree_map(jnp.add, sums, compute(index)), None

    nothing: Any = jax.tree_util.tree_map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(compute, jnp.zeros((), jnp.int32))
    )
    return jax.lax.scan(add, nothing, jnp.arange(num_parts, dtype=jnp.int32))[0]


def _draws_in_parts(leaf: Any, num_parts: int) -> Array:
    """Bring (samples, batch, ...) to (parts, samples, batch of a part, ...)."""
    samples = leaf.shape[0]
    return jnp.moveaxis(jnp.reshape(leaf, (samples, num_parts, -1, *leaf.shape[2:])), 1, 0)

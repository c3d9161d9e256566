"""The statistics that normalize a policy's proprio and un-normalize its actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Float32

from octo_service.errors import InputError

# As the reference writes them, from the smallest to the largest.
ORDERED = ("min", "p01", "p99", "max")
NAMES = ("mean", "std", *ORDERED)
# The reference adds this to a deviation before it divides by it.
EPSILON = 1e-8
# Larger numbers overflow float32 once they are multiplied.
LARGEST = 1e30


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of the actions, or of the proprio, of one dataset, in its own units.

    `mask` is False for the dimensions (usually the gripper) that training left as they are.
    """

    mean: Float32[np.ndarray | Array, " dim"]
    std: Float32[np.ndarray | Array, " dim"]
    mask: Bool[np.ndarray | Array, " dim"]
    p01: Float32[np.ndarray | Array, " dim"] | None = None
    p99: Float32[np.ndarray | Array, " dim"] | None = None


def action_statistics(action: Any) -> Statistics:
    """Read the "action" entry of a dataset's statistics; without a mask every dimension was normalized.

    Raises:
        InputError: it lacks what un-normalizing needs, or holds what cannot be.
    """
    return _statistics("action", action)


def proprio_statistics(proprio: Any) -> Statistics:
    """Read the "proprio" entry of a dataset's statistics.

    Raises:
        InputError: it lacks what normalizing needs, or holds what cannot be.
    """
    read = _statistics("proprio", proprio)
    if np.any((read.std == 0) & read.mask) and not {"min", "max"} <= proprio.keys():
        raise _invalid("the proprio statistics have a std of 0, by which proprio would be divided")
    return read


def _statistics(what: str, given: Any) -> Statistics:
    if not isinstance(given, Mapping):
        raise _invalid(f"the {what} statistics are not a mean and std by name")
    if absent := [name for name in ("mean", "std") if name not in given]:
        raise InputError(
            f"the {what} statistics lack {' and '.join(absent)}", hint=f"they have: {', '.join(given) or 'nothing'}"
        )
    numbers = {name: given[name] for name in NAMES if name in given}
    mask = given.get("mask")
    if _is_traced(numbers, mask):  # a program is being compiled: there are no values to check
        numbers = {name: jnp.asarray(value, jnp.float32) for name, value in numbers.items()}
        mask = jnp.ones(numbers["mean"].shape, bool) if mask is None else mask
        _check_sizes(what, {**numbers, "mask": mask})
    else:
        numbers = {name: _numbers(f"{what} statistics' {name}", value) for name, value in numbers.items()}
        mask = np.ones(numbers["mean"].shape, bool) if mask is None else _mask(what, mask)
        _check_sizes(what, {**numbers, "mask": mask})
        _check_values(what, numbers, mask)
    return Statistics(
        mean=numbers["mean"], std=numbers["std"], mask=mask, p01=numbers.get("p01"), p99=numbers.get("p99")
    )


def _invalid(message: str) -> InputError:
    return InputError(message, hint="pass statistics as a checkpoint has them: mean, std and mask by name")


def _is_traced(*trees: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree_util.tree_leaves(trees))


def _numbers(what: str, given: Any) -> Float32[np.ndarray, "..."]:
    try:
        numbers = np.asarray(given)
    except ValueError as error:  # lists of several lengths
        raise _invalid(f"the {what} is not a list of numbers") from error
    if numbers.dtype.kind not in "fiu" and numbers.dtype.name != "bfloat16":
        raise _invalid(f"the {what} is not a list of numbers")
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    if not np.all(np.abs(single) < LARGEST):
        raise _invalid(f"the {what} holds a number that is not finite, or far too large")
    return single


def _mask(what: str, given: Any) -> Bool[np.ndarray, "..."]:
    mask = np.asarray(given)
    if mask.dtype != bool:
        raise _invalid(f"the {what} statistics' mask is not a list of true and false")
    return mask


def _check_sizes(what: str, given: Mapping[str, Any]) -> None:
    shape = np.shape(given["mean"])
    if len(shape) != 1 or not shape[0]:
        raise _invalid(f"the {what} statistics' mean is not a list of numbers, one a dimension")
    for name, value in given.items():
        if np.shape(value) != shape:
            form = f"of {len(value)} numbers" if np.ndim(value) == 1 else "not a list of numbers, one a dimension"
            raise _invalid(f"the {what} statistics' {name} is {form}, their mean of {shape[0]}")


def _check_values(
    what: str, numbers: Mapping[str, Float32[np.ndarray, " dim"]], mask: Bool[np.ndarray, " dim"]
) -> None:
    if np.any(numbers["std"] < 0):
        raise _invalid(f"the {what} statistics' std is negative")
    for lower, upper in pairwise(name for name in ORDERED if name in numbers):
        if np.any((numbers[lower] > numbers[upper]) & _differ(numbers[lower], numbers[upper])):
            raise _invalid(f"the {what} statistics' {lower} is larger than their {upper}")
    # A number that never changed, such as padding, has none.
    if {"min", "max"} <= numbers.keys() and np.any(
        (numbers["std"] == 0) & mask & _differ(numbers["min"], numbers["max"])
    ):
        raise _invalid(f"the {what} statistics' std is 0 where min and max differ")


def _differ(one: Float32[np.ndarray, " dim"], other: Float32[np.ndarray, " dim"]) -> Bool[np.ndarray, " dim"]:
    """Return where numbers differ by more than rounding."""
    return np.abs(one - other) > 1e-5 * np.maximum(np.abs(one), np.abs(other))


def normalize(numbers: Float[np.ndarray, "*steps dim"], statistics: Statistics) -> Float32[np.ndarray, "*steps dim"]:
    """Return numbers minus their mean, in deviations, as the reference's `NormalizeProprio` does."""
    numbers = np.asarray(numbers, np.float32)
    return np.where(statistics.mask, (numbers - statistics.mean) / (statistics.std + np.float32(EPSILON)), numbers)


def un_normalize(
    actions: Float[np.ndarray | Array, "*batch horizon model_action_dim"],
    statistics: Statistics,
    form: str = "normal",
) -> Float32[np.ndarray | Array, "*batch horizon action_dim"]:
    """Return actions in the units of the dataset; dimensions that it does not have are cut off.

    Follows `OctoModel.sample_actions`: "normal" undoes zero mean and unit variance, "bounds" undoes -1 to 1
    between the first and the last percentile.

    Raises:
        InputError: another form, or "bounds" where the checkpoint has no percentiles.
    """
    check_form(form)
    actions = actions[..., : len(statistics.mean)].astype(np.float32)
    where = np.where if isinstance(actions, np.ndarray) else jnp.where
    if form == "normal":
        scaled = actions * statistics.std + statistics.mean
    elif statistics.p01 is None or statistics.p99 is None:
        raise InputError("this dataset's statistics have no percentiles (p01, p99)", hint="un-normalize with 'normal'")
    else:
        scaled = (actions + 1) * (statistics.p99 - statistics.p01) / 2 + statistics.p01
    return where(statistics.mask, scaled, actions)


def check_form(form: str) -> None:
    """Check the form of normalization.

    Raises:
        InputError: the form is unknown; the hint lists the known ones.
    """
    if form not in ("normal", "bounds"):
        raise InputError(f"normalization_type: {form!r} is not known", hint="pass 'normal' or 'bounds'")

"""Dataset statistics of a checkpoint: what normalizes a policy's proprio and un-normalizes its actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32

from octo_service.errors import CheckpointError, InputError
from octo_service.tracing import is_traced

# As the reference writes them, from the smallest to the largest.
ORDERED = ("min", "p01", "p99", "max")
NAMES = ("mean", "std", *ORDERED)
# What the reference adds to a deviation before it divides by it.
EPSILON = 1e-8
# What is larger leaves float32 once it is multiplied.
LARGEST = 1e30


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of the actions, or of the proprio, of one dataset, in its own units.

    `mask` is False for the dimensions (the gripper, as a rule) that were left as they are in training.
    """

    mean: Float32[np.ndarray | Array, " dim"]
    std: Float32[np.ndarray | Array, " dim"]
    mask: Bool[np.ndarray | Array, " dim"]
    p01: Float32[np.ndarray | Array, " dim"] | None = None
    p99: Float32[np.ndarray | Array, " dim"] | None = None


def dataset_names(dataset_statistics: Mapping[str, Any]) -> tuple[str, ...]:
    """List the datasets by name; none where the statistics are those of the one dataset of a fine-tuning."""
    return () if _is_flat(dataset_statistics) else tuple(sorted(dataset_statistics))


def statistics_of(dataset_statistics: Mapping[str, Any], dataset: str | None) -> Mapping[str, Any]:
    """Pick one dataset's statistics ("action", perhaps "proprio"); None picks the only one there is.

    A checkpoint has them by dataset, or, after fine-tuning, of its one dataset without a name.

    Raises:
        InputError: no such dataset, or none named where there are several; the message lists the known.
    """
    names = dataset_names(dataset_statistics)
    if dataset is None:
        if _is_flat(dataset_statistics):
            return dataset_statistics
        if len(names) == 1:
            return dataset_statistics[names[0]]
        raise InputError(f"the checkpoint has statistics of {len(names)} datasets; name one of: {_listed(names)}")
    if dataset not in names:
        raise InputError(f"dataset '{dataset[:80]}' has no statistics in this checkpoint; it has: {_listed(names)}")
    return dataset_statistics[dataset]


def check_statistics(dataset_statistics: Mapping[str, Any], action_dim: int, proprio_dim: int | None) -> None:
    """Check that statistics are those of a head of `action_dim` numbers, and of the proprio that the policy takes.

    A dataset may have fewer action dimensions than the head. Statistics of proprio that a policy does not take are
    left alone, and so is what else stands beside them (numbers of transitions and trajectories).

    Raises:
        CheckpointError: naming the dataset and what is wrong with it.
    """
    for dataset in dataset_names(dataset_statistics) or ([None] if dataset_statistics else []):
        of_dataset = dataset_statistics if dataset is None else dataset_statistics[dataset]
        where = "" if dataset is None else f" (dataset '{dataset[:80]}')"
        try:
            _check_dataset(of_dataset, action_dim, proprio_dim)
        except InputError as error:
            raise CheckpointError(
                f"dataset_statistics.json does not fit the policy: {error}{where}; "
                "take it from the training run that the parameters are of"
            ) from error


def _check_dataset(of_dataset: Any, action_dim: int, proprio_dim: int | None) -> None:
    if not isinstance(of_dataset, Mapping) or "action" not in of_dataset:
        raise InputError("there are no statistics of actions")
    dims = len(action_statistics(of_dataset["action"]).mean)
    if dims > action_dim:
        raise InputError(f"the action statistics are of {dims} numbers, the head predicts {action_dim}")
    if proprio_dim is not None and "proprio" in of_dataset:
        proprio = proprio_statistics(of_dataset["proprio"])
        if len(proprio.mean) != proprio_dim:
            raise InputError(
                f"the proprio statistics are of {len(proprio.mean)} numbers, the policy takes {proprio_dim}"
            )


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
        raise InputError("the proprio statistics have a std of 0, by which proprio would be divided")
    return read


def _statistics(what: str, given: Any) -> Statistics:
    if not isinstance(given, Mapping):
        raise InputError(f"the {what} statistics are no mean and std by name")
    if absent := [name for name in ("mean", "std") if name not in given]:
        raise InputError(
            f"the {what} statistics lack {' and '.join(absent)}; they have: {', '.join(given) or 'nothing'}"
        )
    numbers = {name: given[name] for name in NAMES if name in given}
    mask = given.get("mask")
    if is_traced(numbers, mask):  # there are no values to look at yet
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


def _numbers(what: str, given: Any) -> Float32[np.ndarray, "..."]:
    try:
        numbers = np.asarray(given)
    except ValueError as error:  # lists of several lengths
        raise InputError(f"the {what} is no list of numbers") from error
    if numbers.dtype.kind not in "fiu" and numbers.dtype.name != "bfloat16":
        raise InputError(f"the {what} is no list of numbers")
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    if not np.all(np.abs(single) < LARGEST):
        raise InputError(f"the {what} holds a number that is not finite, or far too large")
    return single


def _mask(what: str, given: Any) -> Bool[np.ndarray, "..."]:
    mask = np.asarray(given)
    if mask.dtype != bool:
        raise InputError(f"the {what} statistics' mask is no list of true and false")
    return mask


def _check_sizes(what: str, given: Mapping[str, Any]) -> None:
    shape = np.shape(given["mean"])
    if len(shape) != 1 or not shape[0]:
        raise InputError(f"the {what} statistics' mean is no list of numbers, one a dimension")
    for name, value in given.items():
        if np.shape(value) != shape:
            found = f"of {len(value)} numbers" if np.ndim(value) == 1 else "no list of numbers, one a dimension"
            raise InputError(f"the {what} statistics' {name} is {found}, their mean of {shape[0]}")


def _check_values(
    what: str, numbers: Mapping[str, Float32[np.ndarray, " dim"]], mask: Bool[np.ndarray, " dim"]
) -> None:
    if np.any(numbers["std"] < 0):
        raise InputError(f"the {what} statistics' std is negative")
    for lower, upper in pairwise(name for name in ORDERED if name in numbers):
        if np.any((numbers[lower] > numbers[upper]) & _differ(numbers[lower], numbers[upper])):
            raise InputError(f"the {what} statistics' {lower} is larger than their {upper}")
    # A number that never changed, such as padding, has none.
    if {"min", "max"} <= numbers.keys() and np.any(
        (numbers["std"] == 0) & mask & _differ(numbers["min"], numbers["max"])
    ):
        raise InputError(f"the {what} statistics' std is 0 where min and max differ")


def _differ(one: Float32[np.ndarray, " dim"], other: Float32[np.ndarray, " dim"]) -> Bool[np.ndarray, " dim"]:
    """Say where numbers differ by more than they may be rounded."""
    return np.abs(one - other) > 1e-5 * np.maximum(np.abs(one), np.abs(other))


def normalize(numbers: Float[np.ndarray, "*steps dim"], statistics: Statistics) -> Float32[np.ndarray, "*steps dim"]:
    """Return numbers without their mean, in deviations, as the reference's `NormalizeProprio` does."""
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
        raise InputError("this dataset's statistics have no percentiles (p01, p99); un-normalize with 'normal'")
    else:
        scaled = (actions + 1) * (statistics.p99 - statistics.p01) / 2 + statistics.p01
    return where(statistics.mask, scaled, actions)


def check_form(form: str) -> None:
    """Refuse a form that statistics do not have.

    Raises:
        InputError: naming those that they have.
    """
    if form not in ("normal", "bounds"):
        raise InputError(f"normalization_type: {form!r} is not known; it is 'normal' or 'bounds'")


def _is_flat(dataset_statistics: Mapping[str, Any]) -> bool:
    """Whether "action" is what un-normalizes, not a dataset that is called so."""
    action = dataset_statistics.get("action")
    return "action" in dataset_statistics and not (isinstance(action, Mapping) and "action" in action)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "one without a name (leave the dataset away)"

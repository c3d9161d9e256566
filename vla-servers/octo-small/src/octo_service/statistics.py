"""Dataset statistics of a checkpoint: what un-normalizes a policy's actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32

from octo_service.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ActionStatistics:
    """Statistics of the actions of one dataset, in its own units.

    `mask` is False for the dimensions (the gripper, as a rule) that were left as they are in training.
    """

    mean: Float32[np.ndarray, " action_dim"]
    std: Float32[np.ndarray, " action_dim"]
    mask: Bool[np.ndarray, " action_dim"]
    p01: Float32[np.ndarray, " action_dim"] | None = None
    p99: Float32[np.ndarray, " action_dim"] | None = None


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


def action_statistics(action: Mapping[str, Any]) -> ActionStatistics:
    """Read the "action" entry of a dataset's statistics; without a mask every dimension was normalized.

    Raises:
        InputError: it lacks what un-normalizing needs.
    """
    if absent := [name for name in ("mean", "std") if name not in action]:
        raise InputError(
            f"the action statistics lack {' and '.join(absent)}; they have: {', '.join(action) or 'nothing'}"
        )
    numbers = {name: np.asarray(action[name], np.float32) for name in ("mean", "std", "p01", "p99") if name in action}
    mask = np.asarray(action.get("mask", np.ones(numbers["mean"].shape)), bool)
    return ActionStatistics(mask=mask, **numbers)


def un_normalize(
    actions: Float[np.ndarray, "*batch horizon model_action_dim"],
    statistics: ActionStatistics,
    form: Literal["normal", "bounds"] = "normal",
) -> Float32[np.ndarray, "*batch horizon action_dim"]:
    """Return actions in the units of the dataset; dimensions that it does not have are cut off.

    Follows `OctoModel.sample_actions`: "normal" undoes zero mean and unit variance, "bounds" undoes -1 to 1
    between the first and the last percentile.

    Raises:
        InputError: "bounds" where the checkpoint has no percentiles.
    """
    actions = actions[..., : len(statistics.mask)].astype(np.float32)
    if form == "normal":
        scaled = actions * statistics.std + statistics.mean
    elif statistics.p01 is None or statistics.p99 is None:
        raise InputError("this dataset's statistics have no percentiles (p01, p99); un-normalize with 'normal'")
    else:
        scaled = (actions + 1) * (statistics.p99 - statistics.p01) / 2 + statistics.p01
    return np.where(statistics.mask, scaled, actions)


def _is_flat(dataset_statistics: Mapping[str, Any]) -> bool:
    return "mean" in dataset_statistics.get("action", ())


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "one without a name (leave the dataset away)"

"""Statistics by dataset: which datasets a checkpoint knows, and whether their statistics fit the policy."""

from collections.abc import Mapping
from typing import Any

from octo_service.errors import CheckpointError, InputError
from octo_service.preprocessing.statistics import action_statistics, proprio_statistics

TAKE_MATCHING = "take dataset_statistics.json from the training run that the parameters are of"


def dataset_names(dataset_statistics: Mapping[str, Any]) -> tuple[str, ...]:
    """List the datasets by name; empty for statistics of a single unnamed dataset, as a fine-tuning writes them."""
    return () if _is_flat(dataset_statistics) else tuple(sorted(dataset_statistics))


def statistics_of(dataset_statistics: Mapping[str, Any], dataset: str | None) -> Mapping[str, Any]:
    """Return one dataset's statistics ("action", perhaps "proprio"); None selects the only dataset.

    A checkpoint stores them by dataset or, after fine-tuning, for a single dataset without a name.

    Raises:
        InputError: the dataset is unknown, or none is named and there are several; the hint lists them.
    """
    names = dataset_names(dataset_statistics)
    if dataset is None:
        if _is_flat(dataset_statistics):
            return dataset_statistics
        if len(names) == 1:
            return dataset_statistics[names[0]]
        raise InputError(
            f"the checkpoint has statistics of {len(names)} datasets", hint=f"name one of: {_listed(names)}"
        )
    if dataset not in names:
        raise InputError(
            f"dataset '{dataset[:80]}' has no statistics in this checkpoint", hint=f"it has: {_listed(names)}"
        )
    return dataset_statistics[dataset]


def check_statistics(dataset_statistics: Mapping[str, Any], action_dim: int, proprio_dim: int | None) -> None:
    """Check that the statistics fit a head of `action_dim` numbers and the policy's proprio.

    A dataset may have fewer action dimensions than the head. Ignored are statistics of proprio that the policy does not
    take, and other entries (numbers of transitions and trajectories).

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
                f"dataset_statistics.json does not fit the policy: {error.message}{where}", hint=TAKE_MATCHING
            ) from error


def _check_dataset(of_dataset: Any, action_dim: int, proprio_dim: int | None) -> None:
    if not isinstance(of_dataset, Mapping) or "action" not in of_dataset:
        raise InputError("it has no statistics of actions", hint=TAKE_MATCHING)
    dims = len(action_statistics(of_dataset["action"]).mean)
    if dims > action_dim:
        raise InputError(
            f"the action statistics are of {dims} numbers, the head predicts {action_dim}", hint=TAKE_MATCHING
        )
    if proprio_dim is not None and "proprio" in of_dataset:
        proprio = proprio_statistics(of_dataset["proprio"])
        if len(proprio.mean) != proprio_dim:
            raise InputError(
                f"the proprio statistics are of {len(proprio.mean)} numbers, the policy takes {proprio_dim}",
                hint=TAKE_MATCHING,
            )


def _is_flat(dataset_statistics: Mapping[str, Any]) -> bool:
    """Return whether "action" is an entry of statistics, not a dataset of that name."""
    action = dataset_statistics.get("action")
    return "action" in dataset_statistics and not (isinstance(action, Mapping) and "action" in action)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "one without a name (leave the dataset away)"

"""Recorded cases, read out one timestep at a time, as a server does it."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from octo_service.model import OctoModel
from octo_service.model.tokens import Arrays, TokenGroup


def read_out_stepwise(model: OctoModel, observations: Arrays, tasks: Arrays, mask: Any) -> TokenGroup | None:
    """Return what `model.read_out` says of the last timestep: (batch, 1, tokens, dim).

    None if the head reads all observations and some are masked: step by step, these have no tokens.
    """
    observations, tasks, mask = model.prepare(observations, tasks, mask)
    masks = observations["pad_mask_dict"].values()
    if model.head.readout_key == "obs" and not all(np.all(real) for real in masks):
        return None
    rows = [_read_out(model, _row(observations, row), _row(tasks, row), mask[row]) for row in range(len(mask))]
    return TokenGroup(*(jnp.concatenate(arrays) for arrays in zip(*rows, strict=True)))


def _read_out(model: OctoModel, observation: Arrays, task: Arrays, mask: np.ndarray) -> TokenGroup:
    octo = model.stepwise
    prefix = octo.prefix(task)
    tokens = [
        octo.tokenize(prefix, jax.tree_util.tree_map(operator.itemgetter(np.s_[:, step : step + 1]), observation))
        if real
        else None
        for step, real in enumerate(mask)
    ]
    assert tokens[-1] is not None, "the last timestep of a window is real"
    return octo.read_out(octo.prefill(prefix, tokens[:-1]), tokens[-1])


def _row(arrays: Arrays, row: int) -> dict[str, Any]:
    return jax.tree_util.tree_map(lambda array: array[row : row + 1], dict(arrays))

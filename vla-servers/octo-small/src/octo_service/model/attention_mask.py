"""Who attends to whom: the block-causal mask over groups of tokens.

Follows octo/model/components/block_transformer.py of octo-models/octo, computed by group instead of by token.
"""

import functools
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from octo_service.model.tokens import TokenGroup

# A group is named task_* (prefix), obs_* or readout_*, and has this many tokens (at each timestep).
Group = tuple[str, int]


def attention_mask(
    prefix: Mapping[str, TokenGroup], timestep: Mapping[str, TokenGroup], use_correct_attention: bool
) -> Bool[Array, "batch tokens tokens"]:
    """Return whether each token (row) attends to each (column): where the rules allow it and the column is real."""
    batch, window, _ = next(iter(timestep.values())).mask.shape
    rules = attention_rules(_sizes(prefix), _sizes(timestep), window, use_correct_attention)
    steps = jnp.concatenate([group.mask for group in timestep.values()], axis=-1).reshape(batch, -1)
    real = jnp.concatenate([*(group.mask for group in prefix.values()), steps], axis=-1)
    return rules[None] & real[:, None, :]


def _sizes(groups: Mapping[str, TokenGroup]) -> tuple[Group, ...]:
    return tuple((name, group.mask.shape[-1]) for name, group in groups.items())


@functools.lru_cache(maxsize=256)
def attention_rules(
    prefix: tuple[Group, ...], timestep: tuple[Group, ...], window: int, use_correct_attention: bool
) -> Bool[np.ndarray, "tokens tokens"]:
    """Return whether the token of a row may attend to the token of a column, before padding is masked.

    Tokens stand in the order prefix, then each timestep's groups. Tasks see tasks; observations see tasks and
    all observations up to their own timestep; a readout sees these and itself. With `use_correct_attention`
    off, as in the checkpoints of December 2023, the first token of every group but the first counts as one of
    the group before it.
    """
    names = np.concatenate(
        [group_names(prefix, use_correct_attention), np.tile(group_names(timestep, use_correct_attention), window)]
    )
    steps = np.concatenate([np.full(_num_tokens(prefix), -1), np.repeat(np.arange(window), _num_tokens(timestep))])
    kinds = sorted({name for name, _ in prefix + timestep})
    index = np.array([kinds.index(name) for name in names])
    sees = np.array([[_sees(row, column) for column in kinds] for row in kinds])
    rules = sees[index[:, None], index[None]] & (steps[None] <= steps[:, None])
    rules.setflags(write=False)
    return rules


def _num_tokens(groups: Sequence[Group]) -> int:
    return sum(size for _, size in groups)


def group_names(groups: Sequence[Group], use_correct_attention: bool) -> list[str]:
    """Return the name of the group that each token counts as, as `attention_rules` says."""
    ends = np.cumsum([size for _, size in groups])
    side = "right" if use_correct_attention else "left"
    return [groups[int(np.searchsorted(ends, token, side))][0] for token in range(_num_tokens(groups))]


def _sees(row: str, column: str) -> bool:
    if column.startswith("task_"):
        return True
    if column.startswith("obs_"):
        return not row.startswith("task_")
    return row == column

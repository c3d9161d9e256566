"""Which tokens of a timestep enter the transformer, and which of them the action head reads."""

import functools
from dataclasses import dataclass

import numpy as np

from octo_service.model.attention_mask import Group, group_names


@dataclass(frozen=True)
class BlockLayout:
    """Indices into a timestep's groups, laid side by side.

    `tokens` and `readouts` are the tokens of its `Block`; `read` are those that the head reads, counted through
    `tokens`, then `readouts`.
    """

    tokens: tuple[int, ...]
    readouts: tuple[int, ...]
    read: tuple[int, ...]


@functools.lru_cache(maxsize=256)
def block_layout(
    groups: tuple[Group, ...], real: tuple[str, ...], readout_key: str, use_correct_attention: bool
) -> BlockLayout:
    """Lay out a timestep of `groups` for a head that reads `readout_key`: one readout, or all observations ("obs").

    Groups that are not in `real` are masked: they have no tokens.
    """
    owners = np.repeat([name for name, _ in groups], [size for _, size in groups])
    names = np.array(group_names(groups, use_correct_attention))
    reads = np.char.startswith(owners, "obs_") if readout_key == "obs" else owners == readout_key
    is_real = np.isin(owners, real)
    tokens = np.flatnonzero(is_real & np.char.startswith(names, "obs_"))
    # Only its own kind attends to a readout, so another readout can be left out, unless the head reads it.
    readouts = np.flatnonzero(is_real & ~np.char.startswith(names, "obs_") & ((names == readout_key) | reads))
    read = np.flatnonzero(reads[np.concatenate([tokens, readouts])])
    return BlockLayout(tuple(tokens.tolist()), tuple(readouts.tolist()), tuple(read.tolist()))

"""The text encoder as it is served: a block at a time, on parameters that stay where they are stored."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from octo_service.checkpoints.weight_file import leave_to_disk
from octo_service.errors import InputError
from octo_service.model import t5
from octo_service.model.parameters import Leaves, stack_layers, stored
from octo_service.model.prediction import compiled, embed_text, on_device

BlockLeaves = dict[str, Array]


class TextEncoder:
    """Embeds token ids as `t5.encode` does.

    Parameters mapped from a file take memory only while a text is embedded: on a CPU they are used where they lie.
    The embedding table never leaves the host; a text reads as many of its rows as it has tokens.
    """

    def __init__(self, params: Mapping[str, np.ndarray], sizes: t5.T5Sizes):
        self._table, self._sizes = params[t5.EMBEDDING], sizes
        self._leaves = {
            path: jax.device_put(np.asarray(leaf, np.float32))
            for path, leaf in params.items()
            if path.startswith(t5.ROOT) and path != t5.EMBEDDING
        }
        encoder = f"{t5.ROOT}encoder/"
        self._blocks = [self._under(f"{encoder}block/{index}/") for index in range(sizes.num_layers)]
        # Only the first block has it, and all blocks are to run the same program.
        self._relative = {t5.RELATIVE: self._blocks[0].pop(t5.RELATIVE)}
        self._norm = self._under(f"{encoder}final_layer_norm/")
        self._bias = compiled(lambda leaves, mask: t5.attention_bias(stored(Leaves(leaves, {})), mask, sizes))
        self._through_block = compiled(functools.partial(_through_block, sizes))
        self._embed = compiled(functools.partial(embed_text, sizes))
        self._normalize = compiled(lambda leaves, x: t5.rms_norm(stored(Leaves(leaves, {})), x))

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The parameters but the embedding table, by path; on a CPU these are views."""
        return {path: np.asarray(leaf) for path, leaf in self._leaves.items()}

    def embed(self, input_ids: Any, attention_mask: Any) -> Float[Array, "batch tokens dim"]:
        """Embed token ids (batch, tokens); masked tokens are attended by none.

        Raises:
            InputError: ids that the vocabulary has not.
        """
        ids = np.asarray(input_ids)
        if ids.size and not 0 <= ids.min() <= ids.max() < self._sizes.vocabulary:
            raise InputError(
                f"token ids are {ids.min()} to {ids.max()}", hint=f"token ids must be 0 to {self._sizes.vocabulary - 1}"
            )
        x = np.asarray(self._table[ids], np.float32)
        bias = self._bias(self._relative, np.asarray(attention_mask, np.int32))
        for leaves in self._blocks:
            x = self._through_block(leaves, x, bias)
        embedded = jax.block_until_ready(self._normalize(self._norm, x))
        leave_to_disk(self._table)
        return embedded

    @functools.cached_property
    def leaves(self) -> Leaves:
        """All parameters on the device, the table too: what a program of somebody else's embeds texts with."""
        return Leaves({**self._leaves, **on_device(stack_layers({t5.EMBEDDING: self._table})).single}, {})

    def embed_within(self, leaves: Leaves, input_ids: Any, attention_mask: Any) -> Float[Array, "batch tokens dim"]:
        """Embed token ids inside a program that is being compiled."""
        ids = jnp.asarray(input_ids, np.int32)
        return self._embed(leaves, leaves.single[t5.EMBEDDING][ids], jnp.asarray(attention_mask, np.int32))

    def _under(self, place: str) -> BlockLeaves:
        return {path.removeprefix(place): leaf for path, leaf in self._leaves.items() if path.startswith(place)}


def _through_block(sizes: t5.T5Sizes, leaves: BlockLeaves, x: Array, bias: Array) -> Array:
    return t5.through_block(stored(Leaves(leaves, {})), x, bias, sizes)

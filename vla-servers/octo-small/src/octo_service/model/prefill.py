"""What a window's last timestep attends to: the task's prefix, and the prefill of the timesteps before it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Array, Float

from octo_service.model import Precision
from octo_service.model.kv_cache import Block, KVCache, append, prefill
from octo_service.model.layer_weights import Layer
from octo_service.model.prediction import compiled
from octo_service.model.tokens import Arrays


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A task's tokens by group (no group if it is empty), their KV cache, and the task's goal images."""

    tasks: Arrays
    groups: Mapping[str, Float[Array, "tokens dim"]]
    caches: tuple[KVCache, ...]
    goal_features: dict[str, Array]
    """What each stem makes of the goal, by tokenizer, from the first observation on; tasks without a goal share it."""


class Prefill:
    """The KV cache of a window's earlier timesteps, computed layer by layer.

    `computed` is the cache so far, of all layers; `num_bytes` is the size of the whole one.
    """

    def __init__(self, prefix: Prefix, num_timesteps: int, num_bytes: int, steps: Iterator[tuple[KVCache, ...]]):
        self.prefix, self.num_timesteps, self.num_bytes = prefix, num_timesteps, num_bytes
        self.computed = prefix.caches
        self._steps = steps

    def compute_layer(self) -> bool:
        """Compute one timestep's keys and values in one layer; return False when everything is computed."""
        computed = next(self._steps, None)
        if computed is None:
            return False
        self.computed = computed
        return True

    def caches(self) -> tuple[KVCache, ...]:
        """Return every layer's cache, computing what is left."""
        while self.compute_layer():
            pass
        return self.computed


class LayerwisePrefill:
    """Compiles the two programs that take a block through one layer, and runs them layer by layer."""

    def __init__(self, layers: Sequence[Layer], precision: Precision):
        self._layers = layers
        self._prefill = compiled(prefill, precision=precision)
        self._append = compiled(append, precision=precision)

    def steps(self, caches: tuple[KVCache, ...], blocks: Sequence[Block]) -> Iterator[tuple[KVCache, ...]]:
        """Yield the caches as the blocks' keys and values are appended, one layer at a time."""
        for block in blocks:
            for index, layer in enumerate(self._layers[:-1]):
                block, extended = self._prefill(layer, caches[index], block)
                caches = (*caches[:index], extended, *caches[index + 1 :])
                yield caches
            caches = (*caches[:-1], self._append(self._layers[-1], caches[-1], block))
            yield caches

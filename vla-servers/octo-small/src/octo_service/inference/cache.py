"""What one request leaves for the next: task prefixes, observation tokens and KV caches, looked up by content.

Nothing here changes an answer: what is not cached is computed by the same programs from the same numbers.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jax
import numpy as np
from cachetools import Cache, LRUCache, TTLCache
from jaxtyping import Array

from octo_service.model.observation_tokens import ObservationTokens
from octo_service.model.prefill import Prefill, Prefix
from octo_service.model.stepwise import StepwiseOcto
from octo_service.model.tokens import TokenGroup
from octo_service.preprocessing.content import CONTENT
from vla_server_base.contract import PolicyArrays
from vla_server_base.monitoring.cache_lookups import CacheLookups

# Of Octo-Small, a task's prefix takes 0.6 MB, the prefill of an episode's padding 1.2 MB, an observation 0.5 MB.
NUM_TASKS, NUM_PADDINGS, NUM_OBSERVATIONS = 64, 64, 64
KEEP_S = 60.0
"""How long the prefill of a robot's next step is kept: a robot that has left never asks for it."""


class InferenceCache:
    """Reads out windows by an Octo, reusing what earlier windows left; prefills take at most `prefill_mb`.

    `embed` embeds a tokenized text. Not thread-safe: use it from one thread.
    """

    def __init__(
        self,
        octo: StepwiseOcto,
        embed: Callable[[Mapping[str, np.ndarray]], Array],
        prefill_mb: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._octo, self._embed = octo, embed
        self._prefixes: LRUCache[bytes, Prefix] = LRUCache(NUM_TASKS)
        self._observations: LRUCache[bytes, ObservationTokens] = LRUCache(NUM_OBSERVATIONS)
        # Prefills of padding alone, with which every episode of a task begins, and those of one window each.
        self._paddings: LRUCache[bytes, Prefill] = LRUCache(NUM_PADDINGS)
        self._prefills: TTLCache[bytes, Prefill] = TTLCache(
            prefill_mb * 2**20, KEEP_S, clock, getsizeof=lambda each: each.num_bytes
        )
        self.lookups = {name: CacheLookups() for name in ("prefix", "observation", "prefill")}
        """How often each cache had what was needed; of prefills, those of predictions alone: prefetches make them."""

    def read_out(self, observation: PolicyArrays, task: PolicyArrays) -> TokenGroup:
        """Return what the head reads of a window's last timestep."""
        window = _Window(observation, task)
        past = range(window.length - 1)
        self.lookups["prefill"].note(window.key(past) in self._prefills_of(window, past))
        with self._cleared_on_failure():
            prefill = self._prefill(window, past)
            readout = self._octo.read_out(prefill, self._tokens(window, window.length - 1))
        # The next window has another prefill.
        self._prefills.pop(window.key(past), None)
        return readout

    def prefetch(self, observation: PolicyArrays, task: PolicyArrays) -> Iterator[None]:
        """Compute, layer by layer, the prefill of the window that comes after this one."""
        window = _Window(observation, task)
        with self._cleared_on_failure():
            prefill = self._prefill(window, range(1, window.length))
            while prefill.compute_layer():
                jax.block_until_ready(prefill.computed)
                yield

    @contextmanager
    def _cleared_on_failure(self) -> Iterator[None]:
        """Drop everything after an error: some of it may be computed in part."""
        try:
            yield
        except Exception:
            for cache in (self._prefixes, self._observations, self._paddings, self._prefills):
                cache.clear()
            raise

    def _prefills_of(self, window: "_Window", timesteps: range) -> Cache[bytes, Prefill]:
        return self._prefills if window.is_real[timesteps].any() else self._paddings

    def _prefill(self, window: "_Window", timesteps: range) -> Prefill:
        cache, key = self._prefills_of(window, timesteps), window.key(timesteps)
        prefill = cache.get(key)
        if prefill is None:
            tokens = [self._tokens(window, index) if window.is_real[index] else None for index in timesteps]
            prefill = self._octo.prefill(self._prefix(window), tokens)
            if cache is self._paddings or prefill.num_bytes <= cache.maxsize:
                cache[key] = prefill
        return prefill

    def _prefix(self, window: "_Window") -> Prefix:
        prefix = self._prefixes.get(window.task_key)
        self.lookups["prefix"].note(prefix is not None)
        if prefix is None:
            task = dict(window.task)
            if isinstance(task.get("language_instruction"), Mapping):
                task["language_instruction"] = self._embed(task["language_instruction"])
            prefix = self._prefixes[window.task_key] = self._octo.prefix(task)
        return prefix

    def _tokens(self, window: "_Window", index: int) -> ObservationTokens:
        key = window.key(range(index, index + 1))
        tokens = self._observations.get(key)
        self.lookups["observation"].note(tokens is not None)
        if tokens is None:
            tokens = self._octo.tokenize(self._prefix(window), window.timestep(index))
            self._observations[key] = tokens
        return tokens


class _Window:
    """A request's window and task, with the digests of what they are made of."""

    def __init__(self, observation: PolicyArrays, task: PolicyArrays):
        self.task, self.task_key = task, task[CONTENT].tobytes()
        self.is_real = observation["timestep_pad_mask"][0]
        self.length = len(self.is_real)
        self._observation = observation
        # The content of padding is zeros.
        self._contents = observation[CONTENT][0] * self.is_real[:, None]

    def key(self, timesteps: range) -> bytes:
        """Name some of the timesteps, seen in this task, by their content."""
        return self.task_key + self._contents[timesteps].tobytes()

    def timestep(self, index: int) -> PolicyArrays:
        """Return one timestep's arrays, (1, 1, ...)."""
        others = ("timestep_pad_mask", CONTENT)
        arrays = {name: array for name, array in self._observation.items() if name not in others}
        return jax.tree_util.tree_map(lambda array: array[:, index : index + 1], arrays)

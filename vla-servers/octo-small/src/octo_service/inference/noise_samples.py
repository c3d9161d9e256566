"""The noise of each request's samples: drawn from its seed, step and sample alone, so that replies can be repeated."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from cachetools import LRUCache, cachedmethod
from jaxtyping import Array

from octo_service.model.heads import ActionHead, ContinuousHead
from octo_service.model.prediction import Noise, draw_noise
from vla_server_base.contract import PolicyInput

# Samples of one observation run through the head in groups of this size: one program serves any number of them.
SAMPLE_GROUP = 8
NUM_NOISES = 64


class NoiseSamples:
    """Draws the noise of requests for one action head, and keeps what was drawn last."""

    def __init__(self, head: ActionHead):
        self._head = head
        self._drawn: LRUCache[tuple[Any, ...], Noise] = LRUCache(NUM_NOISES)

    def of(self, policy_input: PolicyInput) -> list[Noise]:
        """Return the noise of every sample that a request asks for."""
        return [self.draw(policy_input, sample) for sample in range(policy_input.num_samples)]

    def draw(self, policy_input: PolicyInput, sample: int) -> Noise:
        """Return the noise of one sample; None if the head does not sample."""
        if isinstance(self._head, ContinuousHead):
            return None  # without the key, which takes as long as everything else
        window = policy_input.observation["timestep_pad_mask"].shape
        return self._draw(policy_input.seed, policy_input.step, sample, window)

    @cachedmethod(lambda self: self._drawn, lambda _, *key: key)
    def _draw(self, seed: int, step: int, sample: int, window: tuple[int, ...]) -> Noise:
        return draw_noise(self._head, noise_key(seed, step, sample), window)


def noise_key(seed: int, step: int, sample: int) -> Array:
    """Return the key of one sample of one step: the first of step 0 is the reference's `PRNGKey(seed)`."""
    key = jax.random.PRNGKey(np.uint32(seed))
    if step:
        key = jax.random.fold_in(key, step)
    return jax.random.fold_in(key, np.uint32(2**31 + sample)) if sample else key


def stack_samples(noises: Sequence[Noise]) -> Noise:
    """Stack samples on a leading axis, the last repeated up to a whole group."""
    padded = [*noises, *[noises[-1]] * (SAMPLE_GROUP - len(noises))]
    if isinstance(padded[0], tuple):  # diffusion: x_T (batch, ...) and z (steps, batch, ...)
        starts, steps = zip(*padded, strict=True)
        return np.stack(starts), np.stack(steps, axis=1)
    return np.stack(padded)

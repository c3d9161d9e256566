"""Requests that came together, in one pass over their whole windows: what a GPU wants; a CPU gains nothing by it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np
from cachetools import LRUCache, cachedmethod
from jaxtyping import Array

from octo_service.inference.cache import CONTENT
from octo_service.model import OctoModel
from octo_service.model.octo import Octo
from octo_service.model.prediction import Noise
from octo_service.model.tokens import TokenGroup
from vla_server_base.contract import NormalizedChunks, PolicyArrays, PolicyInput

# Each is a program of its own; fewer rows than one of these are filled up to it.
BUCKETS = (1, 2, 4, 8, 16, 32)
NUM_TASKS = 64
T = TypeVar("T")


class Together:
    """Answers several requests at once, each as it would be alone but for rounding.

    They may differ in everything: what a timestep does not show is masked in it. To be used from one thread, for
    checkpoints that mind masks.
    """

    def __init__(self, model: OctoModel):
        self._model = model
        self._embedded: LRUCache[bytes, Array] = LRUCache(NUM_TASKS)

    def predict(
        self, batch: Sequence[PolicyInput], noises: Sequence[Sequence[Noise]], action_dims: Sequence[int]
    ) -> list[NormalizedChunks]:
        """Return each request's chunks, one for each of its `noises`; numbers beyond its dimension mean nothing."""
        chunks: dict[int, list[np.ndarray]] = defaultdict(list)
        for indices in _in_buckets(range(len(batch))):
            readout = self._read_out([self._arrays(batch[index]) for index in indices])
            wanted = [(row, index, noise) for row, index in enumerate(indices) for noise in noises[index]]
            for rows in _in_buckets(wanted):
                found = self._chunks(readout, rows, action_dims=[action_dims[indices[row]] for row, _, _ in rows])
                for (_, index, _), chunk in zip(rows, found, strict=False):
                    chunks[index].append(chunk)
        return [np.stack(chunks[index]) for index in range(len(batch))]

    def _read_out(self, requests: Sequence[tuple[PolicyArrays, PolicyArrays]]) -> TokenGroup:
        observations, tasks = jax.tree_util.tree_map(lambda *rows: np.concatenate(rows), *_filled_up(requests))
        return self._model.read_out(observations, tasks, observations["timestep_pad_mask"])

    def _chunks(
        self, readout: TokenGroup, wanted: Sequence[tuple[int, int, Noise]], action_dims: Sequence[int]
    ) -> np.ndarray:
        """Return the chunk of each wanted row of a readout, and some more that fill the bucket."""
        rows, _, noises = zip(*_filled_up(wanted), strict=True)
        of_each = TokenGroup(readout.tokens[np.array(rows)], readout.mask[np.array(rows)])
        dims = np.array(_filled_up(action_dims), np.int32)
        return np.asarray(self._model.predict_chunk(of_each, _joined(noises), embodiment_action_dim=dims))

    @cachedmethod(lambda self: self._embedded, lambda _, task: task[CONTENT].tobytes())
    def _embed(self, task: PolicyArrays) -> Array:
        return self._model.embed_text(**task["language_instruction"])

    def _arrays(self, policy_input: PolicyInput) -> tuple[PolicyArrays, PolicyArrays]:
        task = policy_input.task
        seen, told = ({k: v for k, v in arrays.items() if k != CONTENT} for arrays in (policy_input.observation, task))
        if isinstance(task.get("language_instruction"), Mapping):
            told["language_instruction"] = self._embed(task)
        return seen, told


def minds_masks(octo: Octo) -> bool:
    """Say whether what is masked in a timestep is to this architecture as if it were not there."""
    head = octo.heads["action"]
    takes_mean_of_all = head.readout_key == "obs" and not head.use_map
    return not takes_mean_of_all and all(each.proper_pad_mask for each in octo.observation_tokenizers.values())


def _in_buckets(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Divide into as few parts as there may be of the largest bucket."""
    for start in range(0, len(items), BUCKETS[-1]):
        yield items[start : start + BUCKETS[-1]]


def _filled_up(items: Sequence[T]) -> Sequence[T]:
    """Repeat the last item until there are as many as in a bucket."""
    size = next(bucket for bucket in BUCKETS if bucket >= len(items))
    return [*items, *[items[-1]] * (size - len(items))]


def _joined(noises: Sequence[Noise]) -> Noise:
    """Join the noise of several rows, of a batch of one each."""
    if isinstance(noises[0], tuple):  # diffusion: x_T (batch, ...) and z (steps, batch, ...)
        starts, steps = zip(*noises, strict=True)
        return np.concatenate(starts), np.concatenate(steps, axis=1)
    return None if noises[0] is None else np.concatenate(noises)

"""Requests that share one pass over their whole windows: faster on a GPU, not on a CPU."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from cachetools import LRUCache, cachedmethod
from jaxtyping import Array

from octo_service.model import OctoModel
from octo_service.model.heads.guidance import Guide
from octo_service.model.octo import Octo
from octo_service.model.prediction import Noise
from octo_service.model.tokens import TokenGroup
from octo_service.preprocessing.content import CONTENT
from vla_server_base.contract import NormalizedChunks, PolicyArrays, PolicyInput

# One compiled program each; a batch is padded up to the next size.
BUCKETS = (1, 2, 4, 8, 16, 32)
NUM_TASKS = 64
T = TypeVar("T")


class BatchedInference:
    """Answers several requests in one pass; each gets what it would get alone, but for rounding.

    Requests may show different cameras: what a timestep lacks is masked. Use it from one thread, with checkpoints that
    honour masks.
    """

    def __init__(self, model: OctoModel):
        self._model = model
        self._embedded: LRUCache[bytes, Array] = LRUCache(NUM_TASKS)

    def predict(
        self,
        batch: Sequence[PolicyInput],
        noises: Sequence[Sequence[Noise]],
        action_dims: Sequence[int],
        guides: Sequence[Guide] = (),
    ) -> list[NormalizedChunks]:
        """Return each request's chunks, one for each of its `noises`; numbers beyond its dimension mean nothing.

        `guides` are those of all requests or of none: guided sampling is a separate program.
        """
        chunks: dict[int, list[np.ndarray]] = defaultdict(list)
        for indices in _in_buckets(range(len(batch))):
            readout = self._read_out([self._arrays(batch[index]) for index in indices])
            wanted = [(row, index, noise) for row, index in enumerate(indices) for noise in noises[index]]
            for rows in _in_buckets(wanted):
                group = self._chunks(
                    readout,
                    rows,
                    action_dims=[action_dims[index] for _, index, _ in rows],
                    guides=[guides[index] for _, index, _ in rows] if guides else [],
                )
                for (_, index, _), chunk in zip(rows, group, strict=False):
                    chunks[index].append(chunk)
        return [np.stack(chunks[index]) for index in range(len(batch))]

    def _read_out(self, requests: Sequence[tuple[PolicyArrays, PolicyArrays]]) -> TokenGroup:
        observations, tasks = jax.tree_util.tree_map(lambda *rows: np.concatenate(rows), *_padded(requests))
        return self._model.read_out(observations, tasks, observations["timestep_pad_mask"])

    def _chunks(
        self,
        readout: TokenGroup,
        wanted: Sequence[tuple[int, int, Noise]],
        action_dims: Sequence[int],
        guides: Sequence[Guide],
    ) -> np.ndarray:
        """Return the chunk of each wanted row of a readout, and more that pad the bucket."""
        rows, _, noises = zip(*_padded(wanted), strict=True)
        of_each = TokenGroup(readout.tokens[np.array(rows)], readout.mask[np.array(rows)])
        dims = np.array(_padded(action_dims), np.int32)
        guide = Guide(*map(np.concatenate, zip(*_padded(guides), strict=True))) if guides else None
        return np.asarray(self._model.predict_chunk(of_each, _joined(noises), embodiment_action_dim=dims, guide=guide))

    @cachedmethod(lambda self: self._embedded, lambda _, task: task[CONTENT].tobytes())
    def _embed(self, task: PolicyArrays) -> Array:
        return self._model.embed_text(**task["language_instruction"])

    def _arrays(self, policy_input: PolicyInput) -> tuple[PolicyArrays, PolicyArrays]:
        task = policy_input.task
        observation, task_arrays = (_without_content(arrays) for arrays in (policy_input.observation, task))
        if isinstance(task.get("language_instruction"), Mapping):
            task_arrays["language_instruction"] = self._embed(task)
        return observation, task_arrays


def honours_masks(octo: Octo) -> bool:
    """Return whether this architecture ignores everything that a timestep masks."""
    head = octo.heads["action"]
    takes_mean_of_all = head.readout_key == "obs" and not head.use_map
    return not takes_mean_of_all and all(each.proper_pad_mask for each in octo.observation_tokenizers.values())


def _without_content(arrays: PolicyArrays) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if name != CONTENT}


def _in_buckets(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Divide into parts of at most the largest bucket."""
    for start in range(0, len(items), BUCKETS[-1]):
        yield items[start : start + BUCKETS[-1]]


def _padded(items: Sequence[T]) -> Sequence[T]:
    """Repeat the last item up to the size of a bucket."""
    size = next(bucket for bucket in BUCKETS if bucket >= len(items))
    return [*items, *[items[-1]] * (size - len(items))]


def _joined(noises: Sequence[Noise]) -> Noise:
    """Join the noise of several rows, of a batch of one each."""
    if isinstance(noises[0], tuple):  # diffusion: x_T (batch, ...) and z (steps, batch, ...)
        starts, steps = zip(*noises, strict=True)
        return np.concatenate(starts), np.concatenate(steps, axis=1)
    return None if noises[0] is None else np.concatenate(noises)

"""Requests that came together, in one pass over their whole windows: what a GPU wants; a CPU gains nothing by it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import jax
import numpy as np
from cachetools import LRUCache, cachedmethod
from jaxtyping import Array

from octo_service.model import OctoModel
from octo_service.model.prediction import Noise
from octo_service.model.tokens import TokenGroup
from octo_service.remembered import CONTENT
from vla_server_base.contract import CameraSpec, NormalizedChunks, PolicyArrays, PolicyInput

# Each is a program of its own; fewer rows than one of these are filled up to it.
BUCKETS = (1, 2, 4, 8, 16, 32)
NUM_TASKS = 64
T = TypeVar("T")


class Together:
    """Answers several requests at once, each as it would be alone but for rounding.

    They may differ in everything: what a request does not show is shown black and masked, where the checkpoint minds
    masks; otherwise only those that show the same share a pass. To be used from one thread.
    """

    def __init__(self, model: OctoModel, cameras: Sequence[CameraSpec]):
        self._model = model
        minds_masks = all(tokenizer.proper_pad_mask for tokenizer in model.octo.observation_tokenizers.values())
        self._cameras = cameras if minds_masks else ()
        self._embedded: LRUCache[bytes, Array] = LRUCache(NUM_TASKS)

    def predict(self, batch: Sequence[PolicyInput], noises: Sequence[Sequence[Noise]]) -> list[NormalizedChunks]:
        """Return each request's chunks, one for each of its `noises`."""
        chunks: dict[int, list[np.ndarray]] = defaultdict(list)
        passes = defaultdict(list)
        for index, policy_input in enumerate(batch):
            observation = self._filled(policy_input.observation)
            passes[tuple(sorted(observation))].append((index, (observation, self._task(policy_input.task))))
        for requests in (some for alike in passes.values() for some in _in_buckets(alike)):
            readout = self._read_out([arrays for _, arrays in requests])
            wanted = [(row, index, noise) for row, (index, _) in enumerate(requests) for noise in noises[index]]
            for rows in _in_buckets(wanted):
                found = self._chunks(readout, rows)
                for (_, index, _), chunk in zip(rows, found, strict=False):
                    chunks[index].append(chunk)
        return [np.stack(chunks[index]) for index in range(len(batch))]

    def _read_out(self, requests: Sequence[tuple[PolicyArrays, PolicyArrays]]) -> TokenGroup:
        observations, tasks = jax.tree_util.tree_map(lambda *rows: np.concatenate(rows), *_filled_up(requests))
        return self._model.read_out(observations, tasks, observations["timestep_pad_mask"])

    def _chunks(self, readout: TokenGroup, wanted: Sequence[tuple[int, int, Noise]]) -> np.ndarray:
        """Return the chunk of each wanted row of a readout, and some more that fill the bucket."""
        rows, _, noises = zip(*_filled_up(wanted), strict=True)
        of_each = TokenGroup(readout.tokens[np.array(rows)], readout.mask[np.array(rows)])
        return np.asarray(self._model.predict_chunk(of_each, _joined(noises)))

    def _filled(self, observation: PolicyArrays) -> PolicyArrays:
        """Show every camera, those that are not there black and masked."""
        window = observation["timestep_pad_mask"].shape
        filled = {name: value for name, value in observation.items() if name != CONTENT}
        if self._cameras:
            names = [f"image_{camera.name}" for camera in self._cameras]
            filled["pad_mask_dict"] = {name: np.full(window, name in observation) for name in names}
            for name, camera in zip(names, self._cameras, strict=True):
                if name not in filled:
                    filled[name] = np.zeros((*window, camera.height, camera.width, 3), np.uint8)
        return filled

    @cachedmethod(lambda self: self._embedded, lambda _, task: task[CONTENT].tobytes())
    def _embed(self, task: PolicyArrays) -> Array:
        return self._model.embed_text(**task["language_instruction"])

    def _task(self, task: PolicyArrays) -> PolicyArrays:
        told = {name: value for name, value in task.items() if name != CONTENT}
        if isinstance(task.get("language_instruction"), Mapping):
            told["language_instruction"] = self._embed(task)
        return told


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

"""What one request leaves for the next: tasks, frames and pasts, found by their content.

Nothing here changes an answer: what is not remembered is computed by the same programs from the same numbers.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jax
import numpy as np
from cachetools import LRUCache
from jaxtyping import Array, UInt8

from octo_service.model.stepwise import Frame, Past, Prefix, StepwiseOcto
from octo_service.model.tokens import TokenGroup
from vla_server_base.contract import Image, PolicyArrays

# Of Octo-Small, a task takes 0.6 MB, what comes before an episode 1.2 MB, a frame 0.5 MB.
NUM_TASKS, NUM_STARTS, NUM_FRAMES = 64, 64, 64

CONTENT = "content"
"""The name under which observations (1, window, 32) and tasks (1, 32) carry a digest of what they are made of."""


def digest(images: Mapping[str, Image], other: object = None) -> UInt8[np.ndarray, "32"]:
    """Name what was seen or said by its content: pictures by camera, and whatever else `repr` tells apart."""
    hashed = hashlib.sha256(repr(other).encode())
    for name in sorted(images):
        hashed.update(f" {name!r} {images[name].dtype} {images[name].shape} ".encode())
        hashed.update(np.ascontiguousarray(images[name]))
    return np.frombuffer(hashed.digest(), np.uint8)


class Remembered:
    """Reads out observations by an Octo, with what is kept of earlier ones; `past_mb` is what pasts may take.

    `embed` embeds a tokenized text. To be used from one thread.
    """

    def __init__(self, octo: StepwiseOcto, embed: Callable[[Mapping[str, np.ndarray]], Array], past_mb: int):
        self._octo, self._embed = octo, embed
        self._prefixes: LRUCache[bytes, Prefix] = LRUCache(NUM_TASKS)
        self._frames: LRUCache[bytes, Frame] = LRUCache(NUM_FRAMES)
        # Pasts of padding alone, with which every episode of a task begins, and those of one window each.
        self._starts: LRUCache[bytes, Past] = LRUCache(NUM_STARTS)
        self._pasts: LRUCache[bytes, Past] = LRUCache(past_mb * 2**20, getsizeof=lambda past: past.num_bytes)

    def read_out(self, observation: PolicyArrays, task: PolicyArrays) -> TokenGroup:
        """Return what the head reads of a window's last timestep."""
        window = _Window(observation, task)
        with self._forgetting_on_failure():
            past = self._past(window, range(window.length - 1))
            readout = self._octo.read_out(past, self._frame(window, window.length - 1))
        # The next window has another past.
        self._pasts.pop(window.key(range(window.length - 1)), None)
        return readout

    def ahead(self, observation: PolicyArrays, task: PolicyArrays) -> Iterator[None]:
        """Compute, piece by piece, the past of the window that comes after this one."""
        window = _Window(observation, task)
        with self._forgetting_on_failure():
            past = self._past(window, range(1, window.length))
            while past.compute_piece():
                jax.block_until_ready(past.computed)
                yield

    @contextmanager
    def _forgetting_on_failure(self) -> Iterator[None]:
        """Let nothing be used again that was computed in part."""
        try:
            yield
        except Exception:
            for kept in (self._prefixes, self._frames, self._starts, self._pasts):
                kept.clear()
            raise

    def _past(self, window: "_Window", timesteps: range) -> Past:
        kept = self._pasts if window.is_real[timesteps].any() else self._starts
        key = window.key(timesteps)
        past = kept.get(key)
        if past is None:
            frames = [self._frame(window, index) if window.is_real[index] else None for index in timesteps]
            past = self._octo.past(self._prefix(window), frames)
            if kept is self._starts or past.num_bytes <= kept.maxsize:
                kept[key] = past
        return past

    def _prefix(self, window: "_Window") -> Prefix:
        prefix = self._prefixes.get(window.task_key)
        if prefix is None:
            task = dict(window.task)
            if isinstance(task.get("language_instruction"), Mapping):
                task["language_instruction"] = self._embed(task["language_instruction"])
            prefix = self._prefixes[window.task_key] = self._octo.prefix(task)
        return prefix

    def _frame(self, window: "_Window", index: int) -> Frame:
        key = window.key(range(index, index + 1))
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self._octo.frame(self._prefix(window), window.timestep(index))
        return frame


class _Window:
    """A request's window and task, with the digests of what they are made of."""

    def __init__(self, observation: PolicyArrays, task: PolicyArrays):
        self.task, self.task_key = task, task[CONTENT].tobytes()
        self.is_real = observation["timestep_pad_mask"][0]
        self.length = len(self.is_real)
        self._observation = observation
        # Padding has none.
        self._contents = observation[CONTENT][0] * self.is_real[:, None]

    def key(self, timesteps: range) -> bytes:
        """Name some of the timesteps, seen in this task, by their content."""
        return self.task_key + self._contents[timesteps].tobytes()

    def timestep(self, index: int) -> PolicyArrays:
        """Return one timestep's arrays, (1, 1, ...)."""
        others = ("timestep_pad_mask", CONTENT)
        arrays = {name: array for name, array in self._observation.items() if name not in others}
        return jax.tree_util.tree_map(lambda array: array[:, index : index + 1], arrays)

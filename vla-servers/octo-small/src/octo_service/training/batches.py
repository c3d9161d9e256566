"""Batches of samples from recorded episodes: batch k depends on the seed and k alone.

Samples are drawn uniformly over all timesteps of all episodes, and many are made at once. Before the first observation
stands padding that repeats it, with its chunk of actions; after the last action that one repeats. The task counts as
completed two timesteps after the goal's: so the reference has it. Actions that nothing teaches are masked. Follows
octo/data/traj_transforms.py (chunk_act_obs), goal_relabeling.py (uniform) and task_augmentation.py
(delete_task_conditioning) of octo-models/octo.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int64, UInt8

from octo_service.preprocessing.vocabulary import UNKNOWN
from octo_service.training.augmentation import Augmentation, Jitter, augment
from octo_service.training.recordings import Recordings

T = TypeVar("T")

# Of every text of the recordings: token ids and their mask, or embeddings; None if the policy takes no text.
Language = Mapping[str, np.ndarray] | np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How samples are drawn."""

    batch_size: int
    window: int
    horizon: int
    seed: int
    cameras: tuple[str, ...]
    proprio: bool = False
    keep_image_prob: float = 0.5
    """How often the goal is a later image instead of the instruction; always if there is no instruction."""
    history_dropout: float = 0.0
    """How often a sample's earlier observations are masked, as at the start of an episode."""
    word_dropout: float = 0.0
    """How often a token id becomes the unknown word's."""
    augmentations: Mapping[str, Augmentation] = field(default_factory=dict)
    """By camera; the others' images stay as they are."""


class Drawn(NamedTuple):
    """Which timesteps a batch is made of; timesteps count from the start of their episode."""

    episode: Int64[np.ndarray, " batch"]
    now: Int64[np.ndarray, " batch"]
    goal: Int64[np.ndarray, " batch"]
    by_image: Bool[np.ndarray, " batch"]


class Batch(NamedTuple):
    """`arrays` as the loss takes them, and what is still to befall their images, by camera."""

    arrays: dict[str, Any]
    jitter: dict[str, Jitter]


class Batches:
    """All batches of a run, by number: `batches[k]` is always the same."""

    def __init__(self, recordings: Recordings, language: Language, sampling: Sampling):
        self._recordings, self._language, self._sampling = recordings, language, sampling

    def __getitem__(self, number: int) -> Batch:
        random = np.random.default_rng([self._sampling.seed, number])
        arrays = self.assemble(self.draw(random))
        jitter = {
            camera: augmentation.draw(random, self._sampling.batch_size)
            for camera, augmentation in self._sampling.augmentations.items()
        }
        self._drop(arrays, random)
        return Batch(arrays, jitter)

    def draw(self, random: np.random.Generator) -> Drawn:
        """Draw the samples of one batch."""
        recordings, size = self._recordings, self._sampling.batch_size
        step = random.integers(0, len(recordings), size)
        episode = np.searchsorted(recordings.starts, step, side="right") - 1
        now, length = step - recordings.starts[episode], recordings.lengths[episode]
        future, lot = random.integers(now, length), random.random(size)
        # The first text is the empty one.
        by_image = (lot < self._sampling.keep_image_prob) | (recordings.text_of_episode[episode] == 0)
        return Drawn(episode, now, np.where(by_image, future, length - 1), by_image)

    def assemble(self, drawn: Drawn) -> dict[str, Any]:
        """Return the samples as arrays."""
        recordings, sampling = self._recordings, self._sampling
        start, length = recordings.starts[drawn.episode], recordings.lengths[drawn.episode]
        seen = drawn.now[:, None] + np.arange(1 - sampling.window, 1)
        observed = np.maximum(seen, 0)
        ahead = np.arange(sampling.horizon)
        acted = np.minimum(observed[..., None] + ahead, length[:, None, None] - 1)
        action = recordings.actions[start[:, None, None] + acted]
        is_before_goal = seen[..., None] + ahead - 2 < drawn.goal[:, None, None]
        is_taught = ahead <= recordings.driven_ahead[start[:, None] + observed][..., None]

        observation: dict[str, Any] = {"timestep_pad_mask": seen >= 0}
        for camera in sampling.cameras:
            observation[f"image_{camera}"] = recordings.images(camera, drawn.episode, observed)
        if sampling.proprio:
            assert recordings.proprio is not None, "a policy is only given proprio that was recorded"
            observation["proprio"] = recordings.proprio[start[:, None] + observed]
        return {
            "observation": observation,
            "task": self._task(drawn),
            "action": action,
            "action_pad_mask": np.broadcast_to((is_before_goal & is_taught)[..., None], action.shape),
        }

    def _drop(self, arrays: dict[str, Any], random: np.random.Generator) -> None:
        mask = arrays["observation"]["timestep_pad_mask"]
        mask[:, :-1] &= random.random((len(mask), 1)) >= self._sampling.history_dropout
        if isinstance(tokens := arrays["task"].get("language_instruction"), Mapping):
            ids = tokens["input_ids"]
            is_dropped = (ids > UNKNOWN) & (random.random(ids.shape) < self._sampling.word_dropout)
            ids[is_dropped] = UNKNOWN

    def _task(self, drawn: Drawn) -> dict[str, Any]:
        task: dict[str, Any] = {"pad_mask_dict": {}}
        if self._language is not None:
            text = np.where(drawn.by_image, 0, self._recordings.text_of_episode[drawn.episode])
            task["language_instruction"] = jax.tree_util.tree_map(lambda rows: rows[text], self._language)
            task["pad_mask_dict"]["language_instruction"] = ~drawn.by_image
        if self._sampling.keep_image_prob > 0:
            for camera in self._sampling.cameras:
                later = self._recordings.images(
                    camera, drawn.episode[drawn.by_image], drawn.goal[drawn.by_image, None]
                )[:, 0]
                goals = np.zeros((len(drawn.now), *later.shape[1:]), np.uint8)
                goals[drawn.by_image] = later
                task[f"image_{camera}"] = goals
                task["pad_mask_dict"][f"image_{camera}"] = drawn.by_image
        return task


def augmented(batch: Batch) -> dict[str, Any]:
    """Return the batch with its images augmented on the device; an absent goal stays black."""
    observation, task = dict(batch.arrays["observation"]), dict(batch.arrays["task"])
    for camera, jitter in batch.jitter.items():
        name = f"image_{camera}"
        if name in task:
            is_goal = task["pad_mask_dict"][name]
            observation[name], task[name] = _augment_with_goal(observation[name], task[name], is_goal, jitter)
        else:
            observation[name] = _augment(observation[name], jitter)
    return {**batch.arrays, "observation": observation, "task": task}


_augment = jax.jit(augment)


@jax.jit
def _augment_with_goal(
    window: UInt8[Array | np.ndarray, "batch window height width 3"],
    goal: UInt8[Array | np.ndarray, "batch height width 3"],
    is_goal: Bool[Array | np.ndarray, " batch"],
    jitter: Jitter,
) -> tuple[UInt8[Array, "batch window height width 3"], UInt8[Array, "batch height width 3"]]:
    both = augment(jnp.concatenate([jnp.asarray(window), jnp.asarray(goal)[:, None]], axis=1), jitter)
    return both[:, :-1], jnp.where(jnp.asarray(is_goal)[:, None, None, None], both[:, -1], 0)


def made_ahead(make: Callable[[int], T], start: int, stop: int, ahead: int = 2) -> Generator[T, None, None]:
    """Give `make(start)` to `make(stop - 1)`, the next ones being made in a thread meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[T]] = deque()
        try:
            for number in range(start, stop):
                while len(waiting) <= ahead and number + len(waiting) < stop:
                    waiting.append(thread.submit(make, number + len(waiting)))
                yield waiting.popleft().result()
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

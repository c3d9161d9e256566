"""What a run learns from: recorded episodes at the policy's sizes, end to end, their actions normalized.

Follows make_dataset_from_rlds of octo/data/dataset.py, and get_dataset_statistics and
normalize_action_and_proprio of octo/data/utils/data_utils.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from octo_service.errors import TrainingError
from octo_service.preprocessing.images import resize_lanczos
from octo_service.preprocessing.statistics import action_statistics, normalize, proprio_statistics
from vla_server_base.datasets import ArrayStore, ArrayStoreWriter, EpisodeDataset, RecordedEpisode
from vla_server_base.datasets.error_context import error_context

# Numbers that hardly change say nothing, and dividing by their deviation would blow up what is measured elsewhere.
SMALLEST_STD = 1e-6


@dataclass(frozen=True, kw_only=True)
class CameraSource:
    """One of the policy's cameras: its name in the dataset, and the images' size in pixels."""

    source: str
    height: int
    width: int


def prepared(
    dataset: EpisodeDataset, cameras: Mapping[str, CameraSource], folder: Path, watch: Any = iter
) -> EpisodeDataset:
    """Return the episodes with the policy's cameras by its names and at its sizes, fast to read anywhere.

    An array store that has them is returned as it is. From any other dataset a store is written into `folder`, once:
    one that was begun is gone on with. `watch` is put around the episodes that are written, such as a progress bar.

    Raises:
        TrainingError: the dataset has no episode, or lacks a camera.
        DatasetError: it cannot be read.
    """
    if not len(dataset):
        raise TrainingError("the dataset has no episode", hint="record episodes, or give another --data")
    first = dataset[0]
    if absent := sorted(camera.source for camera in cameras.values() if camera.source not in first.images):
        raise TrainingError(
            f"the dataset has no camera {', '.join(absent)}", hint=f"it has: {', '.join(first.images) or 'none'}"
        )
    if isinstance(dataset, ArrayStore) and _fits(first, cameras):
        return dataset
    with ArrayStoreWriter(folder, dataset.fps) as writer:
        num_prepared = len(ArrayStore(folder)) if (folder / "store.json").exists() else 0
        for index in watch(range(num_prepared, len(dataset))):
            resized = _resized(dataset[index], cameras)
            with error_context(f"episode {dataset.name(index)}"):
                writer.append(resized)
    return ArrayStore(folder)


def _fits(episode: RecordedEpisode, cameras: Mapping[str, CameraSource]) -> bool:
    return all(
        camera.source == name and episode.images[name].shape[1:3] == (camera.height, camera.width)
        for name, camera in cameras.items()
    )


def _resized(episode: RecordedEpisode, cameras: Mapping[str, CameraSource]) -> RecordedEpisode:
    images = {
        name: np.stack([resize_lanczos(frame, camera.height, camera.width) for frame in episode.images[camera.source]])
        for name, camera in cameras.items()
    }
    return replace(episode, images=images)


def dataset_statistics(episodes: Sequence[RecordedEpisode], raw_dims: Iterable[int]) -> dict[str, Any]:
    """Return what actions and proprio are normalized by, in the form of a checkpoint of one dataset.

    The action's numbers `raw_dims` (the gripper; negative ones count from the end) stay as they are, as does what
    never changes: their mask is False.
    """
    actions = np.concatenate([episode.actions for episode in episodes])
    changed_dims = np.ones(actions.shape[1], bool)
    changed_dims[list(raw_dims)] = False
    statistics: dict[str, Any] = {
        "action": _statistics(actions, changed_dims),
        "num_transitions": len(actions),
        "num_trajectories": len(episodes),
    }
    proprios = [episode.proprio for episode in episodes if episode.proprio is not None]
    if proprios:
        proprio = np.concatenate(proprios)
        statistics["proprio"] = _statistics(proprio, np.ones(proprio.shape[1], bool))
    return statistics


def _statistics(
    numbers: Float32[np.ndarray, "steps dim"], mask: Bool[np.ndarray, " dim"]
) -> dict[str, Float32[np.ndarray, " dim"] | Bool[np.ndarray, " dim"]]:
    std = numbers.std(0, dtype=np.float64)
    statistics = {
        "mean": numbers.mean(0, dtype=np.float64),
        "std": std,
        "max": numbers.max(0),
        "min": numbers.min(0),
        "p01": np.quantile(numbers, 0.01, axis=0),
        "p99": np.quantile(numbers, 0.99, axis=0),
    }
    return {
        **{name: values.astype(np.float32) for name, values in statistics.items()},
        "mask": mask & (std > SMALLEST_STD),
    }


class Recordings:
    """Episodes end to end, so that any timestep is found by its number; images stay in the episodes' own files.

    `driven_ahead` says of each timestep for how many steps from it on an expert drove: a chunk may be learnt up to the
    action that follows them; at the end of an episode nothing else takes over. Episodes' instructions become their
    numbers in `texts`, of which the first is the empty one.
    """

    def __init__(self, episodes: Sequence[RecordedEpisode], statistics: Mapping[str, Any], texts: Sequence[str]):
        self._episodes = episodes
        self.lengths = np.array([len(episode) for episode in episodes], np.int64)
        self.starts: Int64[np.ndarray, " episodes"] = np.cumsum(self.lengths) - self.lengths
        actions = np.concatenate([episode.actions for episode in episodes])
        self.actions = normalize(actions, action_statistics(statistics["action"]))
        self.proprio = None
        if all(episode.proprio is not None for episode in episodes):
            proprio = np.concatenate([np.asarray(episode.proprio) for episode in episodes])
            self.proprio = normalize(proprio, proprio_statistics(statistics["proprio"]))
        self.driven_ahead = np.concatenate([_driven_ahead(episode) for episode in episodes])
        number = {text: index for index, text in enumerate(texts)}
        self.text_of_episode = np.array([number[episode.instruction] for episode in episodes])

    def __len__(self) -> int:
        """Count the timesteps."""
        return len(self.actions)

    def images(
        self, camera: str, episodes: Int64[np.ndarray, " batch"], timesteps: Int64[np.ndarray, "batch frames"]
    ) -> UInt8[np.ndarray, "batch frames height width 3"]:
        """Return each episode's images at the given timesteps of it."""
        first = self._episodes[0].images[camera]
        images = np.empty((*timesteps.shape, *first.shape[1:]), np.uint8)
        for row, episode, wanted in zip(images, episodes, timesteps, strict=True):
            frames = self._episodes[episode].images[camera]
            for place, timestep in enumerate(wanted):
                row[place] = frames[timestep]
        return images


def _driven_ahead(episode: RecordedEpisode) -> Int64[np.ndarray, " length"]:
    length = len(episode)
    now = np.arange(length)
    endless = np.iinfo(np.int64).max
    if episode.expert_drove is None:
        return np.full(length, endless)
    stops = np.flatnonzero(~episode.expert_drove)
    following = np.searchsorted(stops, now)
    next_stop = np.append(stops, endless)[following]
    return np.where(next_stop == endless, endless, next_stop - now)


def held_out(num_episodes: int, share: float, seed: int) -> Bool[np.ndarray, " num_episodes"]:
    """Choose the episodes that are kept for validation: at least one if there is a share, never all."""
    count = min(max(round(share * num_episodes), 1), num_episodes - 1) if share > 0 else 0
    chosen = np.zeros(num_episodes, bool)
    chosen[np.random.default_rng([seed, 0, 1]).permutation(num_episodes)[:count]] = True
    return chosen


def all_episodes(
    datasets: Sequence[tuple[str, EpisodeDataset]],
    labelled: Callable[[RecordedEpisode], RecordedEpisode] = lambda episode: episode,
) -> list[RecordedEpisode]:
    """Return the episodes of one dataset after the other, `labelled`; each is named by where it comes from.

    Raises:
        TrainingError: their actions are not the same thing: of other rates, or not as many numbers.
    """
    by_dataset = [(name, [labelled(dataset[index]) for index in range(len(dataset))]) for name, dataset in datasets]
    _check_alike("rates", [(name, f"{dataset.fps:g} fps") for name, dataset in datasets])
    _check_alike("actions", [(name, f"{episodes[0].actions.shape[1]} numbers") for name, episodes in by_dataset])
    return _with_one_proprio([episode for _, episodes in by_dataset for episode in episodes])


def _check_alike(what: str, measures: Sequence[tuple[str, str]]) -> None:
    if len({measure for _, measure in measures}) > 1:
        listed = ", ".join(f"{measure} in {name}" for name, measure in measures)
        raise TrainingError(f"the datasets have different {what} ({listed})", hint="train on those that are alike")


def _with_one_proprio(episodes: list[RecordedEpisode]) -> list[RecordedEpisode]:
    """Leave proprio out where not all episodes have as many numbers of it: then it is nothing to be learnt from."""
    dims = {None if episode.proprio is None else episode.proprio.shape[1] for episode in episodes}
    return episodes if len(dims) == 1 else [replace(episode, proprio=None) for episode in episodes]

"""What every form of a dataset holds: recorded episodes, one after another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from vla_server_base.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class RecordedEpisode:
    """One episode: at each timestep what was seen, and the action to learn for it.

    `images` are RGB by camera name (`primary`, `wrist`, ...), taken before the action; `proprio` is what the robot's
    own sensors say, None where nothing was recorded; `environment_state` is what only a simulation knows, such as where
    objects are. `actions` are un-normalized. `instruction` is empty where nobody
    said what was done. `metadata` is whatever JSON holds (the task, the seed).

    `expert_drove` says at which timesteps an expert's action was executed (None: at all). Elsewhere a policy drove, and
    the action is what an expert would have done instead, from which the next timestep does not follow. So of the chunk
    at timestep t, action t + j is only to be learnt where the expert drove at all of t, ..., t + j - 1.

    Raises:
        DatasetError: the arrays are of different lengths.
    """

    images: Mapping[str, UInt8[np.ndarray, "length _ _ 3"]]
    proprio: Float32[np.ndarray, "length proprio_dim"] | None = None
    environment_state: Float32[np.ndarray, "length state_dim"] | None = None
    actions: Float32[np.ndarray, "length action_dim"]
    instruction: str = ""
    expert_drove: Bool[np.ndarray, " length"] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        lengths = {f"image {name}": len(frames) for name, frames in self.images.items()}
        for name in ("proprio", "environment_state", "expert_drove"):
            if (values := getattr(self, name)) is not None:
                lengths[name] = len(values)
        if wrong := {name: length for name, length in lengths.items() if length != len(self.actions)}:
            raise DatasetError(f"an episode has {len(self.actions)} actions, but is of another length in: {wrong}")

    def __len__(self) -> int:
        """Count the timesteps."""
        return len(self.actions)


@runtime_checkable
class EpisodeDataset(Protocol):
    """Episodes that were recorded at one rate, `fps` timesteps a second; `open_dataset` opens those there are."""

    @property
    def fps(self) -> float:
        """Timesteps a second."""
        ...

    def __len__(self) -> int:
        """Count the episodes."""
        ...

    def __getitem__(self, index: int) -> RecordedEpisode:
        """Return an episode; IndexError where there is none, so that a loop over all of them ends."""
        ...

    def metadata(self, index: int) -> Mapping[str, Any]:
        """Return an episode's metadata alone, which takes no decoding."""
        ...


@runtime_checkable
class EpisodeWriter(Protocol):
    """Adds episodes to a dataset on disk, which may have some already."""

    def append(self, episode: RecordedEpisode) -> None:
        """Add an episode.

        Raises:
            DatasetError: it does not fit those that are there.
        """
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...

"""A recorded episode, and what datasets of every format can do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from vla_server_base.datasets.episode_fields import converted_fields


@dataclass(frozen=True, kw_only=True)
class RecordedEpisode:
    """One episode: the observation at each timestep, and the action to learn for it.

    `images` are RGB by camera name (`primary`, `wrist`, ...), taken before the action; `proprio` is what the robot's
    own sensors measured, or None; `environment_state` is what only a simulation knows, such as object positions.
    `actions` are un-normalized. `proprio_names` and `action_names` say what each number is; empty if that is unknown.
    `instruction` is empty if there is none. `metadata` is any JSON (the task, the seed).

    `expert_drove` is False at timesteps at which a policy acted and the action is the expert's label (DAgger); None
    means that the expert always acted. After such a timestep, the next observation does not follow from the labelled
    action. So in the chunk at timestep t, action t + j is only a valid target if the expert acted at all of t, ...,
    t + j - 1.

    Unambiguous values of other types are converted: images as `rgb_images` does; numbers of any type, without a second
    axis if there is one per timestep; texts as UTF-8.

    Raises:
        DatasetError: there is no timestep, a number is not finite, lengths differ, a field cannot be converted, or
            there are names, but not one for each number.
    """

    images: Mapping[str, UInt8[np.ndarray, "length _ _ 3"]]
    proprio: Float32[np.ndarray, "length proprio_dim"] | None = None
    environment_state: Float32[np.ndarray, "length state_dim"] | None = None
    actions: Float32[np.ndarray, "length action_dim"]
    instruction: str = ""
    expert_drove: Bool[np.ndarray, " length"] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    proprio_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()

    def __post_init__(self):
        for name, value in converted_fields(vars(self)).items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, **values: Any) -> "RecordedEpisode":
        """Make an episode of values of other types, which the constructor converts too but does not declare."""
        return cls(**converted_fields(values))

    def __len__(self) -> int:
        """Count the timesteps."""
        return len(self.actions)


@runtime_checkable
class EpisodeDataset(Protocol):
    """Episodes recorded at one rate; `open_dataset` opens one."""

    @property
    def fps(self) -> float:
        """Timesteps per second."""
        ...

    def __len__(self) -> int:
        """Count the episodes."""
        ...

    def __getitem__(self, index: int) -> RecordedEpisode:
        """Return an episode; raise IndexError beyond the last one, which ends a loop over all."""
        ...

    def metadata(self, index: int) -> Mapping[str, Any]:
        """Return the metadata of an episode without decoding its images."""
        ...

    def name(self, index: int) -> str:
        """Return an episode's name in the dataset, such as its number; errors use it."""
        ...


@runtime_checkable
class EpisodeWriter(Protocol):
    """Adds episodes to a dataset on disk, which may have some already."""

    def append(self, episode: RecordedEpisode) -> None:
        """Add an episode.

        Raises:
            DatasetError: it does not fit the episodes of the dataset.
        """
        ...

    def close(self) -> None:
        """Write what is still in memory."""
        ...

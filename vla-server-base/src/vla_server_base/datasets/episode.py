"""What every form of a dataset holds: recorded episodes, one after another."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from vla_server_base.datasets.pictures import rgb_pictures
from vla_server_base.errors import DatasetError

Checked = TypeVar("Checked")

MAY_BE_ABSENT = ("proprio", "environment_state", "expert_drove")
LEAVE_OUT = "mend the recording, or leave the episode out: octo-service convert-data SOURCE OUT --without EPISODE"


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

    What is given in another form is brought to these types where it can be told what it means: see `rgb_pictures`;
    numbers of any type, one a timestep without an axis of their own; texts as UTF-8.

    Raises:
        DatasetError: there is no timestep, a number is not finite, the arrays are of different lengths, or something is
            not what its name says.
    """

    images: Mapping[str, UInt8[np.ndarray, "length _ _ 3"]]
    proprio: Float32[np.ndarray, "length proprio_dim"] | None = None
    environment_state: Float32[np.ndarray, "length state_dim"] | None = None
    actions: Float32[np.ndarray, "length action_dim"]
    instruction: str = ""
    expert_drove: Bool[np.ndarray, " length"] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name, value in _in_form(vars(self)).items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, **given: Any) -> "RecordedEpisode":
        """Make an episode of values in other forms; the constructor takes them too, but its types do not say so."""
        return cls(**_in_form(given))

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

    def name(self, index: int) -> str:
        """Return what the dataset itself calls an episode, such as its number; errors name it so."""
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


@contextmanager
def said_of(what: str) -> Iterator[None]:
    """Have a DatasetError that is raised meanwhile say what it is of."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{what}: {error.message}", hint=error.hint) from error


def _in_form(given: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the fields of an episode to their types.

    Raises:
        DatasetError: naming one that cannot be.
    """
    checks = {
        "proprio": _numbers,
        "environment_state": _numbers,
        "actions": _numbers,
        "instruction": _text,
        "expert_drove": _truths,
        "metadata": _json_values,
    }
    fields = {
        name: None if given[name] is None and name in MAY_BE_ABSENT else _named(name, check, given[name])
        for name, check in checks.items()
        if name in given
    }
    images = {name: _named(f"camera {name}", rgb_pictures, frames) for name, frames in given["images"].items()}
    _check_lengths({**fields, **{f"image {name}": frames for name, frames in images.items()}})
    return {**given, **fields, "images": images}


def _check_lengths(fields: Mapping[str, Any]) -> None:
    length = len(fields["actions"])
    lengths = {name: len(values) for name, values in fields.items() if isinstance(values, np.ndarray)}
    if wrong := {name: other for name, other in lengths.items() if other != length}:
        raise DatasetError(f"an episode has {length} actions, but is of another length in: {wrong}", hint=LEAVE_OUT)
    if not length:
        raise DatasetError("an episode without a timestep cannot be recorded", hint=LEAVE_OUT)


def _named(name: str, checked: Callable[[Any], Checked], given: Any) -> Checked:
    with said_of(name):
        return checked(given)


def _numbers(given: Any) -> Float32[np.ndarray, "length dim"]:
    values = _array(given)
    if values.dtype.kind not in "uifb":
        raise DatasetError(f"{values.dtype} is no type of numbers", hint="give float32")
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not values.shape[1]:
        raise DatasetError(f"an array of shape {values.shape}", hint="give one of shape (length, numbers a timestep)")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found below
        values = values.astype(np.float32, copy=False)
    if len(wrong := np.argwhere(~np.isfinite(values))):
        timestep, number = wrong[0]
        raise DatasetError(
            f"number {number} at timestep {timestep} is {values[timestep, number]}, not a finite number", hint=LEAVE_OUT
        )
    return values


def _truths(given: Any) -> Bool[np.ndarray, " length"]:
    values = _array(given)
    if values.dtype != bool and (values.dtype.kind not in "uif" or not np.isin(values, (0, 1)).all()):
        raise DatasetError("something else than true and false, or 1 and 0", hint="give an array of bool")
    return values.astype(bool, copy=False).reshape(len(values))


def _array(given: Any) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:
        raise DatasetError(
            f"no array can be made of it ({error})", hint="give as many numbers each timestep"
        ) from error


def _text(given: Any) -> str:
    """Return a text, which may be a numpy array of one, and bytes of UTF-8."""
    text = given.item() if isinstance(given, np.generic | np.ndarray) and np.size(given) == 1 else given
    try:
        text = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise DatasetError(f"{text!r} is no UTF-8", hint="decode it") from error
    if not isinstance(text, str):
        raise DatasetError(f"{type(text).__name__} is no text", hint="give a string, empty where nobody said it")
    return str(text)


def _json_values(given: Any) -> dict[str, Any]:
    try:
        json.dumps(values := dict(given), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"not what JSON holds ({error})", hint="give numbers, texts, lists and dicts") from error
    return values

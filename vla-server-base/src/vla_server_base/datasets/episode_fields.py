"""The fields of an episode: each is checked and converted to its type."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float32

from vla_server_base.datasets.error_context import error_context
from vla_server_base.datasets.images import rgb_images
from vla_server_base.errors import DatasetError

OPTIONAL_FIELDS = ("proprio", "environment_state", "expert_drove")
DROP_EPISODE = "fix the recording, or drop the episode: octo-service convert-data SOURCE OUT --without EPISODE"

Field = TypeVar("Field")


def converted_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the fields of an episode to their types.

    Raises:
        DatasetError: a field cannot be converted; the message names it.
    """
    conversions = {
        "proprio": _numbers,
        "environment_state": _numbers,
        "actions": _numbers,
        "instruction": _text,
        "expert_drove": _booleans,
        "metadata": _json_object,
    }
    fields = {
        name: None if values[name] is None and name in OPTIONAL_FIELDS else _convert(name, convert, values[name])
        for name, convert in conversions.items()
        if name in values
    }
    images = {name: _convert(f"camera {name}", rgb_images, frames) for name, frames in values["images"].items()}
    _check_lengths({**fields, **{f"image {name}": frames for name, frames in images.items()}})
    for field, names in (("proprio", "proprio_names"), ("actions", "action_names")):
        _check_names(names, values.get(names, ()), fields.get(field))
    return {**values, **fields, "images": images}


def _check_lengths(fields: Mapping[str, Any]) -> None:
    num_actions = len(fields["actions"])
    lengths = {name: len(values) for name, values in fields.items() if isinstance(values, np.ndarray)}
    if other_lengths := {name: length for name, length in lengths.items() if length != num_actions}:
        raise DatasetError(
            f"an episode has {num_actions} actions, but another number of timesteps in: {other_lengths}",
            hint=DROP_EPISODE,
        )
    if not num_actions:
        raise DatasetError("an episode needs at least one timestep, got 0", hint=DROP_EPISODE)


def _check_names(field: str, names: tuple[str, ...], numbers: np.ndarray | None) -> None:
    num_numbers = 0 if numbers is None else numbers.shape[1]
    if names and len(names) != num_numbers:
        raise DatasetError(
            f"{field}: expected {num_numbers}, one for each number, got {len(names)}: {', '.join(names)}",
            hint="name each number, or none",
        )


def _convert(name: str, convert: Callable[[Any], Field], value: Any) -> Field:
    with error_context(name):
        return convert(value)


def _numbers(value: Any) -> Float32[np.ndarray, "length dim"]:
    numbers = _array(value)
    if numbers.dtype.kind not in "uifb":
        raise DatasetError(f"expected numbers, got an array of {numbers.dtype}", hint="use float32")
    if numbers.ndim == 1:
        numbers = numbers[:, None]
    if numbers.ndim != 2 or not numbers.shape[1]:
        raise DatasetError(
            f"expected an array of shape (length, dim), got {numbers.shape}", hint="flatten each timestep to a vector"
        )
    with np.errstate(over="ignore"):  # An overflow becomes infinite, which the next check reports.
        numbers = numbers.astype(np.float32, copy=False)
    if len(not_finite := np.argwhere(~np.isfinite(numbers))):
        timestep, column = not_finite[0]
        raise DatasetError(
            f"number {column} at timestep {timestep} is {numbers[timestep, column]}, not a finite number",
            hint=DROP_EPISODE,
        )
    return numbers


def _booleans(value: Any) -> Bool[np.ndarray, " length"]:
    flags = _array(value)
    if flags.dtype != bool and (flags.dtype.kind not in "uif" or not np.isin(flags, (0, 1)).all()):
        raise DatasetError("expected only true and false, or 1 and 0", hint="use an array of bool")
    return flags.astype(bool, copy=False).reshape(len(flags))


def _array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DatasetError(
            f"expected an array, got rows of different lengths ({error})",
            hint="give the same number of values at each timestep",
        ) from error


def _text(value: Any) -> str:
    """Return a text, which may also be a numpy array of one text, or bytes in UTF-8."""
    text = value.item() if isinstance(value, np.generic | np.ndarray) and np.size(value) == 1 else value
    try:
        text = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise DatasetError(f"expected UTF-8, got {text!r}", hint="decode the text first") from error
    if not isinstance(text, str):
        raise DatasetError(f"expected a text, got {type(text).__name__}", hint="use an empty string for no instruction")
    return str(text)


def _json_object(value: Any) -> dict[str, Any]:
    try:
        json.dumps(content := dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"expected what JSON can hold ({error})", hint="use finite numbers, texts, lists and dicts"
        ) from error
    return content

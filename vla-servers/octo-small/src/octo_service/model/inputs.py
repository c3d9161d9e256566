"""What a script hands to the model: tasks made of texts and goals, arrays checked against the checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from octo_service.errors import InputError
from octo_service.model.octo import Octo
from octo_service.model.tokens import Arrays
from octo_service.preprocessing.text import TextTokenizer


def make_tasks(
    examples: Arrays,
    tokenizer: TextTokenizer | None,
    goals: Mapping[str, np.ndarray] | None,
    texts: Sequence[str] | None,
) -> dict[str, Any]:
    """Make tasks of instructions, of goal images, or of both, in the shapes of a checkpoint's example tasks.

    Raises:
        InputError: as `OctoModel.create_tasks`.
    """
    if goals is None and texts is None:
        raise InputError("the task is empty", hint="give texts=[...], goals={'image_primary': ...}, or both")
    if isinstance(texts, str):
        raise InputError(
            "texts must be a list, one instruction per batch entry",
            hint="pass, for example, texts=['pick up the spoon']",
        )
    batches = {value.shape[0] for value in (goals or {}).values()} | ({len(texts)} if texts is not None else set())
    if len(batches) != 1:
        raise InputError(
            f"texts and goals must have one batch size, not {sorted(batches)}", hint="give as many of each"
        )
    (batch,) = batches
    if goals is None:
        images = {
            key: np.zeros((batch, *example.shape[1:]), example.dtype)
            for key, example in examples.items()
            if key not in ("pad_mask_dict", "language_instruction")
        }
    else:
        images = dict(goals)
    real = {key: np.full(batch, goals is not None) for key in images}
    tasks = {
        **images,
        "pad_mask_dict": {**real, "language_instruction": np.full(batch, texts is not None)},
    }
    if tokenizer is not None:
        tasks["language_instruction"] = tokenizer.encode(list(texts) if texts is not None else [""] * batch)
    _check_shapes("task", tasks, examples, leading_axes=1)
    return tasks


def checked_inputs(
    octo: Octo, examples: Mapping[str, Any], observations: Arrays, tasks: Arrays, timestep_pad_mask: Any
) -> tuple[dict[str, Any], dict[str, Any], np.ndarray | Array]:
    """Check everything against the example batch, and keep only what the network reads; texts are still token ids.

    Raises:
        InputError: shapes that do not fit the checkpoint.
    """
    if timestep_pad_mask is None:
        raise InputError("timestep_pad_mask is missing", hint="put it into observations or pass it, (batch, window)")
    mask = _as_bool(timestep_pad_mask)
    _check_shapes("observation", observations, examples["observation"], leading_axes=2)
    _check_shapes("task", tasks, examples["task"], leading_axes=1)
    names = octo.observation_names(observations)
    if not names:
        known = ", ".join(octo.observation_names(examples["observation"]))
        raise InputError(f"none of {sorted(observations)} is an observation of this model", hint=f"it takes {known}")
    for name in names:
        if observations[name].shape[:2] != mask.shape:
            raise InputError(
                f"observation '{name}' is {observations[name].shape[:2]} (batch, window), "
                f"timestep_pad_mask is {mask.shape}",
                hint="give both one batch and one window",
            )
    observed = {name: observations[name] for name in names}
    observed |= _pad_masks(observations, names)
    names = octo.task_names(tasks)
    needed = {name: tasks[name] for name in names} | _pad_masks(tasks, ["language_instruction"])
    return observed, needed, mask


def _pad_masks(arrays: Arrays, names: Sequence[str]) -> dict[str, dict[str, np.ndarray | Array]]:
    masks = arrays.get("pad_mask_dict") or {}
    return {"pad_mask_dict": {name: _as_bool(masks[name]) for name in names if name in masks}}


def _as_bool(mask: Any) -> np.ndarray | Array:
    return jnp.asarray(mask, bool) if isinstance(mask, Tracer) else np.asarray(mask, bool)


def _check_shapes(what: str, given: Arrays, examples: Arrays, leading_axes: int) -> None:
    for name, example in examples.items():
        if name in given and isinstance(example, np.ndarray) and not isinstance(given[name], Mapping):
            shape, expected = given[name].shape[leading_axes:], example.shape[leading_axes:]
            if shape != expected:
                raise InputError(f"{what} '{name}' is {shape} per entry", hint=f"this model takes {expected}")

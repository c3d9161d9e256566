"""Checkpoints written, in the reference's form or to be memory-mapped."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from octo_service.checkpoints.checkpoint import CONFIG, EXAMPLE_BATCH, STATISTICS, VOCABULARY, Checkpoint, steps_in
from octo_service.checkpoints.flax_msgpack import nested, write_tree
from octo_service.checkpoints.stored_params import SAFETENSORS
from octo_service.checkpoints.weight_file import write_weights
from octo_service.errors import CheckpointError

Form = Literal["reference", "safetensors"]
"""How parameters are written: as the reference does, in one msgpack file, or to be memory-mapped as they are."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, form: Form = "reference") -> None:
    """Write one step in a form, and what describes the model, if that is missing.

    Raises:
        CheckpointError: the step exists already.
    """
    folder, step = Path(folder), checkpoint.step
    if step in steps_in(folder):
        raise CheckpointError(
            f"{folder} already holds step {step}", hint="save under another step, or remove that one first"
        )
    # Written under another name first, so that a half-written step is never mistaken for a whole one.
    unfinished = folder / f"{step}.unfinished"
    (unfinished / "default").mkdir(parents=True, exist_ok=True)
    if form == "safetensors":
        write_weights(unfinished / "default" / SAFETENSORS, checkpoint.params, {"params_hash": checkpoint.params_hash})
    else:
        with (unfinished / "default" / "checkpoint").open("wb") as file:
            write_tree(file, _tree(checkpoint.params))
    os.replace(unfinished, folder / str(step))
    describe(folder, checkpoint)


def describe(folder: Path, checkpoint: Checkpoint) -> None:
    """Write config, example batch, statistics and vocabulary, if they are missing."""
    if not (folder / CONFIG).exists():
        (folder / CONFIG).write_text(json.dumps(checkpoint.config))
    if not (folder / EXAMPLE_BATCH).exists():
        with (folder / EXAMPLE_BATCH).open("wb") as file:
            write_tree(file, checkpoint.example_batch)
    if not (folder / STATISTICS).exists():
        (folder / STATISTICS).write_text(json.dumps(_as_lists(checkpoint.dataset_statistics)))
    if checkpoint.vocabulary is not None and not (folder / VOCABULARY).exists():
        (folder / VOCABULARY).write_text(checkpoint.vocabulary, encoding="utf-8")


def _tree(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of flat parameters, sorted at every level as the reference's trees are."""
    return nested({path: np.asarray(params[path]) for path in sorted(params, key=lambda path: path.split("/"))})


def _as_lists(statistics: Any) -> Any:
    if isinstance(statistics, Mapping):
        return {name: _as_lists(value) for name, value in statistics.items()}
    return np.asarray(statistics).tolist()

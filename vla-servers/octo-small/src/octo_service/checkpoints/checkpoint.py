"""Checkpoints as the reference writes them: config, parameters, statistics, example batch in one folder.

    config.json   dataset_statistics.json   example_batch.msgpack
    <step>/default/checkpoint           all parameters in one msgpack file, or
    <step>/default/manifest.ocdbt ...   one by one, with or without a `checkpoint` that names them

and, which the reference has not,

    tokenizer.json                      the vocabulary of a text encoder that is not T5's
    <step>/default/params.safetensors   all parameters, memory-mapped as they are

Follows `OctoModel.load_pretrained` and `save_pretrained` of octo-models/octo.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octo_service.checkpoints.flax_msgpack import read_tree
from octo_service.checkpoints.stored_params import load_params, read_file
from octo_service.errors import CheckpointError

CONFIG, STATISTICS, EXAMPLE_BATCH = "config.json", "dataset_statistics.json", "example_batch.msgpack"
VOCABULARY = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One step of a checkpoint folder, with the reference's shims for old ones applied.

    `params` are keyed by path ("octo_transformer/obs_primary_projection/bias"), read-only, of the dtype
    they were stored in. `params_hash` does not depend on their stored form. `vocabulary` is the content
    of its tokenizer.json, None if the config names one of the hub's.
    """

    config: dict[str, Any]
    params: dict[str, np.ndarray]
    dataset_statistics: dict[str, Any]
    example_batch: dict[str, Any]
    step: int
    params_hash: str
    statistics_hash: str
    vocabulary: str | None = None


def load_checkpoint(folder: Path, step: int | None = None, cache_dir: Path | None = None) -> Checkpoint:
    """Load a checkpoint folder, or one step's folder in it; the latest step unless told.

    With a `cache_dir` the parameters are converted once and memory-mapped from there afterwards.

    Raises:
        CheckpointError: a file is missing or damaged; the message names it.
    """
    folder, step = _folder_and_step(Path(folder), step)
    steps = steps_in(folder)
    step = max(steps, default=None) if step is None else step
    if step is None or step not in steps:
        raise _no_such_step(folder, step, steps)
    config = _read_config(folder / CONFIG)
    statistics, statistics_hash = read_file(folder / STATISTICS, _decode_statistics)
    example_batch = _read_example_batch(folder / EXAMPLE_BATCH)
    params, params_hash = load_params(steps[step] / "default", cache_dir)
    return Checkpoint(
        config=config,
        params=params,
        dataset_statistics=statistics,
        example_batch=example_batch,
        step=step,
        params_hash=params_hash,
        statistics_hash=statistics_hash,
        vocabulary=_read_vocabulary(folder / VOCABULARY),
    )


def _folder_and_step(folder: Path, step: int | None) -> tuple[Path, int | None]:
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {folder}", hint=f"give the folder that holds {CONFIG}")
    if not folder.name.isdigit() or (folder / CONFIG).exists():
        return folder, step
    if step not in (None, int(folder.name)):
        raise CheckpointError(
            f"{folder} is the folder of step {folder.name}, not of step {step}", hint="give only one of the two"
        )
    return folder.parent, int(folder.name)


def steps_in(folder: Path) -> dict[int, Path]:
    """Return the folders of the steps that a checkpoint folder holds."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return {int(entry.name): entry for entry in entries if entry.name.isdigit() and entry.is_dir()}


def _no_such_step(folder: Path, step: int | None, steps: Mapping[int, Path]) -> CheckpointError:
    if not steps:
        return CheckpointError(
            f"{folder} holds no step's folder (such as 300000/)", hint="copy or download the checkpoint again"
        )
    return CheckpointError(f"{folder} holds no step {step}", hint=f"it holds: {', '.join(map(str, sorted(steps)))}")


def _read_config(path: Path) -> dict[str, Any]:
    config = read_file(path, lambda content: json.loads(bytes(content)))
    try:
        head = config["model"]["heads"]["action"]["kwargs"]
        if "pred_horizon" in head:  # its name until 1.0
            head["action_horizon"] = head.pop("pred_horizon")
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a config of Octo (it has no model.heads.action.kwargs)", hint="copy or download it again"
        ) from error
    return config


def _decode_statistics(content: Any) -> tuple[dict[str, Any], str]:
    statistics = json.loads(bytes(content))
    if statistics is None:  # the reference's, where a model has none
        statistics = {}
    if not isinstance(statistics, dict):
        raise ValueError("expected statistics by name")
    canonical = json.dumps(statistics, sort_keys=True).encode()
    return _as_arrays(statistics), hashlib.sha256(canonical).hexdigest()


def _read_example_batch(path: Path) -> dict[str, Any]:
    batch = read_file(path, read_tree)
    try:
        if "tasks" in batch:  # its name until 1.0
            batch["task"] = batch.pop("tasks")
        if "timestep_pad_mask" not in batch["observation"]:
            batch["observation"]["timestep_pad_mask"] = batch["observation"]["pad_mask"]
        return {**batch, "task": batch["task"]}
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not an example batch of Octo ({error})", hint="copy or download it again"
        ) from error


def _read_vocabulary(path: Path) -> str | None:
    return read_file(path, lambda content: bytes(content).decode()) if path.exists() else None


def _as_arrays(statistics: Any) -> Any:
    if isinstance(statistics, dict):
        return {name: _as_arrays(value) for name, value in statistics.items()}
    return np.array(statistics)

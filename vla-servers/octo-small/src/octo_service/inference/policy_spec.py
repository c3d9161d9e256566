"""What the loaded checkpoint takes and gives, as a server announces it."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from octo_service.config import OctoConfig
from octo_service.errors import ModelConfigError
from octo_service.model import OctoModel, t5
from octo_service.model.heads import DiffusionHead
from octo_service.preprocessing.dataset_statistics import dataset_names
from vla_server_base.contract import ActionSpec, CameraSpec, PolicySpec
from vla_server_base.errors import UnknownName

USUAL_DATASET = "bridge_dataset"
EE_DELTA = ActionSpec(
    names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    units=("m", "m", "m", "rad", "rad", "rad", "1 open, 0 closed"),
    formats=("standard", "ee_delta"),
)


def policy_spec(
    model: OctoModel,
    model_id: str,
    revision: str | None,
    is_random: bool,
    config: OctoConfig,
    action_dims: Mapping[str | None, int],
) -> PolicySpec:
    """Return what the loaded checkpoint takes and gives.

    Raises:
        UnknownName: the checkpoint lacks the dataset of `config`.
        ModelConfigError: its window is too long.
    """
    head = model.head
    datasets = dataset_names(model.dataset_statistics)
    default = _default_dataset(config, datasets)
    action_dim = action_dims.get(default, head.action_dim)
    actions = _action_spec(head.action_dim, action_dim)
    others = {name: dims for name, dims in action_dims.items() if name is not None and dims != action_dim}
    used = jax.devices()[0]
    return PolicySpec(
        model=model_id,
        revision=revision,
        weights="random" if is_random else "pretrained",
        cameras=_cameras(model),
        window=_window(config, model),
        horizon=head.action_horizon,
        action_dim=action_dim,
        action_names=actions.names,
        action_units=actions.units,
        action_formats=actions.formats,
        datasets=datasets,
        default_dataset=default,
        platform=used.platform,
        device=used.device_kind,
        supports_rtc=isinstance(head, DiffusionHead),
        takes_goal_images=any(name.startswith("image_") for name in model.example_batch["task"]),
        proprio_dim=model.proprio_dim,
        other_actions={name: _action_spec(head.action_dim, dims) for name, dims in others.items()},
        details=_details(model),
    )


def _default_dataset(config: OctoConfig, datasets: Sequence[str]) -> str | None:
    if config.dataset is not None and config.dataset not in datasets:
        raise UnknownName("dataset", config.dataset, datasets)
    usual = USUAL_DATASET if USUAL_DATASET in datasets else datasets[0] if len(datasets) == 1 else None
    return config.dataset or usual


def _window(config: OctoConfig, model: OctoModel) -> int:
    window = config.window or model.example_batch["observation"]["timestep_pad_mask"].shape[1]
    if window > model.octo.max_horizon:
        raise ModelConfigError(
            f"OCTO_WINDOW={window}: this checkpoint attends to {model.octo.max_horizon} observations at most",
            hint=f"set OCTO_WINDOW to 1 to {model.octo.max_horizon}",
        )
    return window


def _cameras(model: OctoModel) -> tuple[CameraSpec, ...]:
    observation = model.example_batch["observation"]
    return tuple(
        CameraSpec(name=name.removeprefix("image_"), height=shape[2], width=shape[3])
        for name in model.octo.observation_names(observation)
        if name.startswith("image_") and (shape := observation[name].shape)
    )


def _action_spec(head_dim: int, action_dim: int) -> ActionSpec:
    """Return what an action of a dataset is: known for Octo's own seven numbers, raw for any other number."""
    if head_dim == action_dim == len(EE_DELTA.names):
        return EE_DELTA
    names = tuple(f"action_{number}" for number in range(action_dim))
    return ActionSpec(names=names, units=("as in the dataset",) * action_dim, formats=("raw",))


def _details(model: OctoModel) -> dict[str, Any]:
    sizes = {path: int(np.prod(leaf.shape)) for path, leaf in model.checkpoint.params.items()}
    text = sum(size for path, size in sizes.items() if path.startswith(t5.ROOT))
    return {
        "step": model.checkpoint.step,
        "checkpoint_hash": model.checkpoint.params_hash,
        "statistics_hash": model.checkpoint.statistics_hash,
        "parameters": {"total": sum(sizes.values()), "text_encoder": text, "policy": sum(sizes.values()) - text},
        "head": type(model.head).__name__,
        "tokenizer": type(model.tokenizer).__name__ if model.tokenizer else None,
        "precision": model.precision,
        "versions": {name: importlib.metadata.version(name) for name in ("octo-service", "jax", "jaxlib")},
    }

"""A loaded checkpoint as the PolicySpec by which a server treats it."""

import platform
from typing import Any, Literal

import torch
from lerobot import __version__ as lerobot_version
from lerobot.configs import FeatureType
from lerobot.processor import TokenizerProcessorStep

from lerobot_service.checkpoints.checkpoint import LoadedPolicy
from lerobot_service.checkpoints.features import cameras_of
from vla_server_base.contract import CameraSpec, PolicySpec
from vla_server_base.errors import ModelUnavailable

# A checkpoint of LeRobot does not say in which units its data were recorded.
UNIT = "unknown"


def policy_spec(loaded: LoadedPolicy, model_id: str) -> PolicySpec:
    """Describe a loaded policy; its horizon is what config.json says, until a prediction shows it."""
    config, state = loaded.config, loaded.config.robot_state_feature
    horizon = getattr(config, "chunk_size", None) or getattr(config, "n_action_steps", 1)
    cameras = tuple(
        CameraSpec(name=name, height=shape[1], width=shape[2], required=True)
        for feature, name in cameras_of(config).items()
        for shape in [config.image_features[feature].shape]
    )
    return PolicySpec(
        model=model_id,
        cameras=cameras,
        horizon=horizon,
        action_names=loaded.names.action,
        action_units=(UNIT,) * len(loaded.names.action),
        window=config.n_obs_steps,
        proprio_dim=None if state is None else state.shape[0],
        proprio_names=loaded.names.state,
        proprio_units=(UNIT,) * len(loaded.names.state),
        requires_proprio=state is not None,
        takes_instruction=takes_instruction(loaded),
        **_execution(config, horizon),
        control_hz=loaded.names.control_hz,
        supports_rtc=loaded.policy.supports_rtc(),
        revision=loaded.revision,
        platform="gpu" if loaded.device.type == "cuda" else "cpu",
        device=_device_name(loaded.device),
        details={
            "policy_type": config.type,
            "parameters": sum(parameter.numel() for parameter in loaded.policy.parameters()),
            "checkpoint_hash": loaded.hash,
            "names_from": loaded.names.source,
            "lerobot": lerobot_version,
            "torch": torch.__version__,
            "notes": list(loaded.notes),
        },
    )


def takes_instruction(loaded: LoadedPolicy) -> bool:
    """Return whether the policy reads text: its preprocessor tokenizes it, or text is among its inputs."""
    steps, inputs = loaded.preprocessor.steps, loaded.config.input_features or {}
    return any(isinstance(step, TokenizerProcessorStep) or hasattr(step, "task_key") for step in steps) or any(
        feature.type is FeatureType.LANGUAGE for feature in inputs.values()
    )


def _execution(config: Any, horizon: int) -> dict[str, Any]:
    """Execute as `select_action` does: each chunk's first actions, or an ensemble of all chunks."""
    weight = getattr(config, "temporal_ensemble_coeff", None)
    if weight is not None:
        mode: Literal["ensemble", "chunk"] = "ensemble"
        return {"execution": mode, "ensemble_weight": float(weight)}
    num_executed = min(getattr(config, "n_action_steps", horizon), horizon)
    if num_executed < 1:
        raise ModelUnavailable(
            f"config.json says that {num_executed} actions of each chunk are executed",
            hint=f"correct n_action_steps: 1 to {horizon}",
        )
    return {"execution": "chunk", "execution_horizon": num_executed}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"

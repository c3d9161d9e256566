"""LoadedPolicy: a LeRobot policy with its processors and what its checkpoint says of it, whole or not at all."""

from dataclasses import dataclass
from pathlib import Path

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline

from lerobot_service.checkpoints.features import check_features
from lerobot_service.checkpoints.hub import Hub
from lerobot_service.checkpoints.model_folder import find_model
from lerobot_service.checkpoints.named_files import NamedFiles, read_settings
from lerobot_service.checkpoints.names import Names, read_names
from lerobot_service.checkpoints.policy_config import read_config
from lerobot_service.checkpoints.processors import load_processors
from lerobot_service.checkpoints.weights import hash_of, load_policy
from lerobot_service.config import LeRobotConfig
from vla_server_base.errors import ModelUnavailable


@dataclass(frozen=True, kw_only=True)
class LoadedPolicy:
    """What predicts: `postprocessor(policy.predict_action_chunk(preprocessor(batch)))`, on `device`.

    The three belong together and keep what they saw last, so they run one request after the other. `hash` is the
    SHA-256 of the checkpoint's files, `revision` the hub's commit. `notes` say what was read otherwise than written.
    """

    policy: PreTrainedPolicy
    preprocessor: PolicyProcessorPipeline
    postprocessor: PolicyProcessorPipeline
    config: PreTrainedConfig
    device: torch.device
    names: Names
    folder: Path
    revision: str | None
    hash: str
    notes: tuple[str, ...] = ()


def load_checkpoint(model_id: str, config: LeRobotConfig, device: str = "auto", hub: Hub | None = None) -> LoadedPolicy:
    """Load a folder's or the hub's checkpoint onto `device` ("auto", "cpu", "gpu"); `hub` is huggingface.co by default.

    Raises:
        ModelOutOfReach: the hub does not answer; another try may help.
        ModelUnavailable: something is missing, damaged or not understood; the message names it.
    """
    torch_device = find_device(device)
    hub = hub or Hub()
    found = find_model(model_id, hub)
    files = NamedFiles(settings=read_settings(config.files), folder=found.folder, hub=hub)
    policy_config, notes = read_config(files, torch_device.type, config.ignore_fields.split())
    check_features(policy_config)
    preprocessor, postprocessor, more_notes = load_processors(policy_config, files)
    policy = load_policy(found.folder, policy_config)
    return LoadedPolicy(
        policy=policy,
        preprocessor=preprocessor,
        postprocessor=postprocessor,
        config=policy_config,
        device=torch_device,
        names=read_names(found.folder, policy_config, config),
        folder=found.folder,
        revision=found.revision,
        hash=hash_of(found.folder),
        notes=(*notes, *more_notes),
    )


def find_device(device: str) -> torch.device:
    """Return PyTorch's device for "auto", "cpu" or "gpu".

    Raises:
        ModelUnavailable: there is no GPU.
    """
    if device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if device == "gpu":
        raise ModelUnavailable("PyTorch finds no GPU here", hint="set VLA_DEVICE=auto, or install a driver")
    return torch.device("cpu")

"""model.safetensors into a policy: every parameter from the file, of its shape and finite, or nothing at all."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import get_policy_class
from lerobot.policies.pretrained import PreTrainedPolicy
from safetensors import SafetensorError, safe_open
from torch.nn.modules.module import _IncompatibleKeys

from lerobot_service.checkpoints.policy_config import missing_extra, read_json
from vla_server_base.errors import ModelUnavailable

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
NUM_NAMED = 5


def load_policy(folder: Path, config: PreTrainedConfig) -> PreTrainedPolicy:
    """Build the policy and load its weights as its own `from_pretrained` does, on `config.device`.

    Raises:
        ModelUnavailable: a file that is missing or damaged, or parameters that are missing, unexpected, of another
            shape, or not finite.
    """
    check_weight_file(folder)
    try:
        policy_class = get_policy_class(config.type)
    except ImportError as error:
        raise missing_extra(config.type, error) from error
    faults: list[str] = []
    num_loads = 0

    def load_state_dict(policy: torch.nn.Module, weights: Mapping[str, torch.Tensor], *_, **__) -> _IncompatibleKeys:
        nonlocal num_loads
        num_loads += 1
        faults.extend(_faults(policy, weights))
        if faults:  # pi0's from_pretrained would print an error and return random weights
            return _IncompatibleKeys([], [])
        if hasattr(config, "load_vlm_weights"):
            _take_over_dtypes(policy, weights)
        return torch.nn.Module.load_state_dict(policy, weights, strict=False)

    # What every policy's own way of loading ends in, after it has renamed the file's keys.
    checked_class = type(policy_class.__name__, (policy_class,), {"load_state_dict": load_state_dict})
    try:
        policy = checked_class.from_pretrained(str(folder), config=config, local_files_only=True)
    except ImportError as error:
        raise missing_extra(config.type, error) from error
    except Exception as error:
        raise ModelUnavailable(
            f"policy type '{config.type}' cannot be built from {folder}: {type(error).__name__}: {error}",
            hint="compare config.json with one of a run that works, or serve it with the lerobot that wrote it",
        ) from error
    if faults or not num_loads:
        raise ModelUnavailable(
            f"{WEIGHTS_FILE} does not fit config.json: {'; '.join(faults) or 'it was not read'}",
            hint="copy the checkpoint again, or serve it with the lerobot release that wrote it",
        )
    policy.__class__ = policy_class  # pyright: ignore[reportAttributeAccessIssue]
    return policy.to(config.device).eval()


def check_weight_file(folder: Path) -> None:
    """Check that a folder has whole weights in safetensors.

    Raises:
        ModelUnavailable: it has not; what it has instead is named.
    """
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise _no_weights(folder)
    try:
        with safe_open(weights, framework="pt") as content:
            keys = list(content.keys())
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(
            f"{WEIGHTS_FILE} is damaged or no safetensors file: {error}", hint="copy or download it again"
        ) from error
    if not keys:
        raise ModelUnavailable(f"{WEIGHTS_FILE} holds no weights", hint="copy or download it again")


def hash_of(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint: of its configurations, statistics and weights."""
    digest = hashlib.sha256()
    for path in sorted((*folder.glob("*.json"), *folder.glob("*.safetensors"))):
        digest.update(path.name.encode())
        with path.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _no_weights(folder: Path) -> ModelUnavailable:
    if (folder / INDEX_FILE).is_file():
        shards = sorted(set(read_json(folder / INDEX_FILE).get("weight_map", {}).values()))
        absent = [name for name in shards if not (folder / name).is_file()]
        detail = f", of which {', '.join(absent)} are missing" if absent else ""
        return ModelUnavailable(
            f"the weights are in {len(shards)} shards{detail}; LeRobot reads one {WEIGHTS_FILE}",
            hint="save the policy with lerobot's save_pretrained, which writes one file",
        )
    if pickled := sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED):
        return ModelUnavailable(
            f"the checkpoint has only pickled weights ({', '.join(pickled)}), which can run code and are never read",
            hint=f"save them as {WEIGHTS_FILE}, with lerobot's save_pretrained",
        )
    if (folder / "adapter_config.json").is_file():
        return ModelUnavailable(
            "the checkpoint is an adapter (peft), without the policy that it adapts",
            hint="merge it into that policy with peft's merge_and_unload, and save the result",
        )
    return ModelUnavailable(f"the checkpoint has no {WEIGHTS_FILE}", hint="copy or download it again")


def _faults(policy: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Compare a file's weights with those that the policy is made of."""
    built = policy.state_dict()
    given_storages = {_storage(built[name]) for name in weights if name in built}
    missing = [name for name in built if name not in weights and _storage(built[name]) not in given_storages]
    unexpected = [name for name in weights if name not in built]
    misshapen = [
        f"{name} is {list(tensor.shape)}, not {list(built[name].shape)}"
        for name, tensor in weights.items()
        if name in built and tensor.shape != built[name].shape
    ]
    not_finite = [
        name for name, tensor in weights.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen, "not finite": not_finite}
    return [f"{len(names)} {what} ({_first(names)})" for what, names in found.items() if names]


def _take_over_dtypes(policy: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give parameters the file's types: SmolVLA's are bfloat16 only if it was built from weights of the hub."""
    for name, parameter in policy.named_parameters():
        if name in weights:
            parameter.data = parameter.data.to(weights[name].dtype)


def _storage(tensor: torch.Tensor) -> tuple:
    """Identify what tied tensors share; a file holds it once."""
    if not tensor.numel():
        return (id(tensor),)
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:NUM_NAMED]) + (", ..." if len(names) > NUM_NAMED else "")

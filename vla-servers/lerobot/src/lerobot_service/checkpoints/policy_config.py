"""config.json as the configuration of a policy that can be built here, without asking the hub for anything."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import draccus
import lerobot.policies  # noqa: F401  registers the configurations of all policy types
from lerobot import __version__ as lerobot_version
from lerobot.configs import PreTrainedConfig

from lerobot_service.checkpoints.model_folder import CONFIG_FILE
from lerobot_service.checkpoints.named_files import NEEDED, NamedFiles
from lerobot_service.checkpoints.refused_types import refusal_of
from vla_server_base.errors import ModelUnavailable

# Weights to start a training from; the checkpoint's own replace them, so that they are never fetched.
INITIAL_WEIGHTS: Mapping[str, Any] = {"pretrained_backbone_weights": None, "load_vlm_weights": False}
# Where the policy came from or goes to; none of it is part of the policy.
PROVENANCE = ("pretrained_path", "pretrained_revision", "repo_id")


def read_config(
    files: NamedFiles, device: str, ignored_fields: Collection[str] = ()
) -> tuple[PreTrainedConfig, list[str]]:
    """Return the configuration of a checkpoint's policy, to be built on `device` ("cpu", "cuda"), and notes on it.

    What it names on the hub, it then names by the folders of `files`.

    Raises:
        ModelUnavailable: a policy type that cannot be served, or fields that this LeRobot does not know and that
            `ignored_fields` does not name.
    """
    fields = read_json(files.folder / CONFIG_FILE)
    policy_type = fields.pop("type", None)
    known_types = PreTrainedConfig.get_known_choices()
    if not isinstance(policy_type, str):
        raise ModelUnavailable(
            f"{CONFIG_FILE} names no policy type, so it is not a checkpoint of LeRobot",
            hint=f"'type' is one of {', '.join(sorted(known_types))}",
        )
    if refusal := refusal_of(policy_type):
        raise refusal
    if policy_type not in known_types:
        raise ModelUnavailable(
            f"policy type '{policy_type}' is not in LeRobot {lerobot_version}, and plugins are not loaded",
            hint=f"known are {', '.join(sorted(known_types))}; a newer lerobot may know it",
        )
    if fields.get("use_peft"):
        raise ModelUnavailable(
            "the checkpoint is an adapter (use_peft), which holds only changes of another checkpoint's weights",
            hint="merge it into the policy that it adapts with peft's merge_and_unload, and save the result",
        )
    kind = PreTrainedConfig.get_choice_class(policy_type)
    notes = _leave_out(fields, {each.name for each in dataclasses.fields(kind)}, ignored_fields, policy_type)
    notes += _build_without_hub(fields, files)
    try:
        config = draccus.decode(kind, {**fields, "device": device})
    except ImportError as error:
        raise missing_extra(policy_type, error) from error
    except Exception as error:  # draccus, and every policy's own checks
        raise ModelUnavailable(
            f"{CONFIG_FILE} is not one of {policy_type} in LeRobot {lerobot_version}: {_in_short(error)}",
            hint="serve it with the lerobot release that wrote it, or correct the field",
        ) from error
    return config, notes


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's JSON object.

    Raises:
        ModelUnavailable: the file is missing, or is not one.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{path.name} cannot be read: {_in_short(error)}", hint="copy the checkpoint again"
        ) from error
    if not isinstance(content, dict):
        raise ModelUnavailable(f"{path.name} is not a JSON object", hint="copy the checkpoint again")
    return content


def missing_extra(policy_type: str, error: ImportError) -> ModelUnavailable:
    """Return the error for a policy whose packages are not installed."""
    return ModelUnavailable(
        f"policy type '{policy_type}' needs packages that are not installed: {_in_short(error)}",
        hint="install the extra of lerobot that the message names into this service's environment",
    )


def _leave_out(fields: dict[str, Any], known: Collection[str], ignored: Collection[str], policy_type: str) -> list[str]:
    unknown = sorted(set(fields) - set(known))
    if refused := [name for name in unknown if name not in ignored]:
        raise ModelUnavailable(
            f"{CONFIG_FILE} has fields that {policy_type} of LeRobot {lerobot_version} does not know: "
            f"{', '.join(refused)}",
            hint="serve it with the lerobot release that wrote it, or, if they do not change the motion, "
            f'set LEROBOT_IGNORE_FIELDS="{" ".join(refused)}"',
        )
    return [f"{CONFIG_FILE}'s {name}={json.dumps(fields.pop(name))} is ignored" for name in unknown]


def _build_without_hub(fields: dict[str, Any], files: NamedFiles) -> list[str]:
    for name in PROVENANCE:
        fields.pop(name, None)
    fields.update({name: value for name, value in INITIAL_WEIGHTS.items() if name in fields})
    fields.update({name: files.find(name, fields[name]) for name in NEEDED if fields.get(name)})
    if fields.get("compile_model"):
        fields["compile_model"] = False
        return ["compile_model is off, so that noise follows each request's seed"]
    return []


def _in_short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0][:300]}" if lines else type(error).__name__

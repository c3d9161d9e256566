"""policy_preprocessor.json and policy_postprocessor.json as the two pipelines around a policy."""

import importlib
import json
from pathlib import Path
from typing import Any

from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.processor import (
    AbsoluteActionsProcessorStep,
    PolicyProcessorPipeline,
    ProcessorStepRegistry,
    RelativeActionsProcessorStep,
)

from lerobot_service.checkpoints.named_files import NEEDED, NamedFiles
from lerobot_service.checkpoints.policy_config import read_json
from lerobot_service.checkpoints.statistics import check_statistics
from vla_server_base.errors import ModelUnavailable

PREPROCESSOR_FILE, POSTPROCESSOR_FILE = "policy_preprocessor.json", "policy_postprocessor.json"
MIGRATION = "python -m lerobot.processor.migrate_policy_normalization --pretrained-path"
# LeRobot's general steps that a served policy may have; a policy type's own come from its own package.
GENERAL_STEPS = (
    "rename_observations_processor",
    "to_batch_processor",
    "device_processor",
    "normalizer_processor",
    "unnormalizer_processor",
    "tokenizer_processor",
    "smolvla_new_line_processor",
    "relative_actions_processor",
    "absolute_actions_processor",
)


def load_processors(
    config: PreTrainedConfig, files: NamedFiles
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline, list[str]]:
    """Return a checkpoint's pre- and post-processor, on the configuration's device, and notes on them.

    Raises:
        ModelUnavailable: there are none, they have steps that are not LeRobot's own, they do not belong together, or
            their statistics do not fit the policy.
    """
    check_processor_files(files.folder)
    importlib.import_module(type(config).__module__.replace("configuration_", "processor_"))  # registers its steps
    steps = [_steps_of(files.folder / name, config) for name in (PREPROCESSOR_FILE, POSTPROCESSOR_FILE)]
    overrides = [
        _overrides(steps_of_one, device, files)
        for steps_of_one, device in zip(steps, (str(config.device), "cpu"), strict=True)
    ]
    try:
        preprocessor, postprocessor = make_pre_post_processors(
            config,
            pretrained_path=str(files.folder),
            preprocessor_overrides=overrides[0],
            postprocessor_overrides=overrides[1],
        )
    except Exception as error:  # whatever a step raises
        raise ModelUnavailable(
            f"the checkpoint's processors cannot be built: {type(error).__name__}: {str(error)[:300]}",
            hint="copy the checkpoint again, or serve it with the lerobot release that wrote it",
        ) from error
    check_statistics(config, preprocessor, postprocessor)
    _check_relative_actions(config, preprocessor, postprocessor)
    return preprocessor, postprocessor, _notes(steps[0])


def check_processor_files(folder: Path) -> None:
    """Check that a checkpoint has both processors.

    Raises:
        ModelUnavailable: it has not, as before lerobot 0.4; the hint is the command that makes them.
    """
    absent = [name for name in (PREPROCESSOR_FILE, POSTPROCESSOR_FILE) if not (folder / name).is_file()]
    if absent:
        raise ModelUnavailable(
            f"the checkpoint has no {' and no '.join(absent)}, so nothing would normalize its inputs and actions",
            hint=f"if it is of LeRobot before 0.4: {MIGRATION} {folder} --output-dir NEW_FOLDER "
            "(offline, only its model card at the end fails)",
        )


def _steps_of(path: Path, config: PreTrainedConfig) -> list[dict[str, Any]]:
    steps = read_json(path).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ModelUnavailable(f"{path.name} lists no steps", hint="copy the checkpoint again")
    package = type(config).__module__.rpartition(".")[0]
    for step in steps:
        name = step.get("registry_name")
        if name is None:
            raise ModelUnavailable(
                f"{path.name} names the class {step.get('class')} as a step, and code is not loaded on a file's word",
                hint="only steps that LeRobot itself registers are served",
            )
        known = ProcessorStepRegistry._registry.get(name)
        if known is None or (name not in GENERAL_STEPS and not known.__module__.startswith(f"{package}.")):
            raise ModelUnavailable(
                f"{path.name} has the step '{name}', which is not known for a policy of type {config.type}",
                hint=f"general steps are {', '.join(GENERAL_STEPS)}",
            )
    return steps


def _overrides(steps: list[dict[str, Any]], device: str, files: NamedFiles) -> dict[str, dict[str, Any]]:
    """Return what must differ from the file: the device, folders for names, and names as the policy has them."""
    overrides: dict[str, dict[str, Any]] = {}
    for step in steps:
        settings = step.get("config") or {}
        changed: dict[str, Any] = {field: files.find(field, settings[field]) for field in NEEDED if settings.get(field)}
        if "device" in settings:
            changed["device"] = device
        if "rename_map" in settings:
            changed["rename_map"] = {}
        if changed:
            overrides[step["registry_name"]] = changed
    return overrides


def _notes(steps: list[dict[str, Any]]) -> list[str]:
    maps = [step["config"]["rename_map"] for step in steps if (step.get("config") or {}).get("rename_map")]
    return [f"cameras have the policy's own names; its robots' names were {json.dumps(each)}" for each in maps]


def _check_relative_actions(
    config: PreTrainedConfig, preprocessor: PolicyProcessorPipeline, postprocessor: PolicyProcessorPipeline
) -> None:
    """Relative actions become absolute by the state that the same checkpoint's preprocessor saw last."""
    relative = _enabled(preprocessor, RelativeActionsProcessorStep)
    absolute = _enabled(postprocessor, AbsoluteActionsProcessorStep)
    wanted = 1 if getattr(config, "use_relative_actions", False) else 0
    if (len(relative), len(absolute)) != (wanted, wanted):
        raise ModelUnavailable(
            f"config.json says use_relative_actions={bool(wanted)}, but {len(relative)} steps of the preprocessor make "
            f"actions relative and {len(absolute)} of the postprocessor make them absolute",
            hint="copy the checkpoint's config.json and both processors from the same run",
        )
    if any(step.relative_step not in relative for step in absolute):
        raise ModelUnavailable(
            "the postprocessor's absolute actions are not bound to the preprocessor's state",
            hint="serve the checkpoint with the lerobot release that wrote it",
        )


def _enabled(pipeline: PolicyProcessorPipeline, kind: type) -> list[Any]:
    steps: list[Any] = [step for step in pipeline.steps if isinstance(step, kind)]
    return [step for step in steps if step.enabled]

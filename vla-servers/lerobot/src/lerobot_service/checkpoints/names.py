"""What the numbers of actions and states are called, and at which rate: a config.json of LeRobot says neither."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.configs import PolicyFeature, PreTrainedConfig
from lerobot.utils.constants import ACTION, HF_LEROBOT_HOME, OBS_STATE

from lerobot_service.config import MAX_HZ, LeRobotConfig
from vla_server_base.errors import ModelUnavailable

# What a data set says of itself, as `meta/info.json` in it or as a copy in the checkpoint.
INFO_FILES = ("meta/info.json", "info.json")
TRAIN_CONFIG_FILE = "train_config.json"


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of an action's and of a state's numbers, the rate [1/s] if anything says it, and their file."""

    action: tuple[str, ...]
    state: tuple[str, ...]
    control_hz: float | None
    source: str


def read_names(folder: Path, policy: PreTrainedConfig, config: LeRobotConfig) -> Names:
    """Take names and rate from the settings, else from the data set's info.json, else count: `action_0`, `state_0`.

    Raises:
        ModelUnavailable: there are more or fewer names than numbers, or two numbers have one.
    """
    path, info = _data_set_info(folder)
    source = str(path.relative_to(folder) if path.is_relative_to(folder) else path) if path else "none"
    recorded = info.get("features") or {}

    def names(feature: str, numbers: PolicyFeature | None, setting: str, told: str) -> tuple[str, ...]:
        dim = numbers.shape[0] if numbers else 0
        found = tuple(told.split()) or (_flat((recorded.get(feature) or {}).get("names")) if dim else ())
        if found and len(found) != dim:
            raise ModelUnavailable(
                f"{setting if told else source} names {len(found)} numbers of '{feature}', and the policy has {dim}: "
                f"{', '.join(found)[:300]}",
                hint=f"set {setting} to {dim} names, separated by spaces" if dim else f"leave {setting} out",
            )
        if twice := [name for name, count in Counter(found).items() if count > 1]:
            raise ModelUnavailable(
                f"{setting if told else source} calls two numbers of '{feature}' {twice[0]}",
                hint=f"set {setting} to {dim} names, each another",
            )
        return found or tuple(f"{feature.removeprefix('observation.')}_{i}" for i in range(dim))

    return Names(
        action=names(ACTION, policy.action_feature, "LEROBOT_ACTION_NAMES", config.action_names),
        state=names(OBS_STATE, policy.robot_state_feature, "LEROBOT_STATE_NAMES", config.state_names),
        control_hz=config.control_hz or _rate(info.get("fps")),
        source=source,
    )


def _data_set_info(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the first info.json that exists, beside the checkpoint or in the data set that it was trained on."""
    data_set = (_object(folder / TRAIN_CONFIG_FILE) or {}).get("dataset") or {}
    roots = [folder]
    if isinstance(data_set.get("root"), str):
        roots.append(Path(data_set["root"]))
    elif isinstance(data_set.get("repo_id"), str):
        roots.append(HF_LEROBOT_HOME / data_set["repo_id"])
    for path in (root / name for root in roots for name in INFO_FILES):
        if info := _object(path):
            return path, info
    return None, {}


def _rate(fps: Any) -> float | None:
    is_rate = isinstance(fps, int | float) and not isinstance(fps, bool) and 0 < fps <= MAX_HZ
    return float(fps) if is_rate else None


def _object(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _flat(names: Any) -> tuple[str, ...]:
    """Return names that data sets write as a list, or as lists by the kind of motor."""
    if isinstance(names, dict):
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    return tuple(str(name) for name in names) if isinstance(names, list) else ()

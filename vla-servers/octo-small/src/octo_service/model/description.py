"""What a model takes and gives, described for people."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from octo_service.model.octo import Octo
from octo_service.model.tokens import Arrays


def description(octo: Octo, example: Mapping[str, Any]) -> str:
    """Describe the observations, tasks and actions of an architecture, by an example batch."""
    head = octo.heads["action"]
    window = example["observation"]["timestep_pad_mask"].shape[1]
    lines = [
        f"Octo: window of {window} timesteps (up to {octo.max_horizon}), "
        f"{head.action_horizon} actions of {head.action_dim} numbers, {type(head).__name__}",
        "observations (any subset):",
        *_describe(example["observation"], octo.observation_names, ("batch", "window")),
        "tasks (any subset):",
        *_describe(example["task"], octo.task_names, ("batch",)),
    ]
    return "\n".join(lines)


def _describe(examples: Arrays, names_read: Any, axes: tuple[str, ...]) -> list[str]:
    return [
        f"  {name}: ({', '.join([*axes, *map(str, examples[name].shape[len(axes) :])])}) {examples[name].dtype}"
        if isinstance(examples[name], np.ndarray)
        else f"  {name}: text"
        for name in sorted(names_read(examples))
    ]

"""An Octo for another robot: other cameras, proprio, other actions, with all of its parameters that still fit.

Follows examples/02_finetune_new_observation_action.py of octo-models/octo, and `merge_params` of
octo/utils/train_utils.py.
"""

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from octo_service.errors import TrainingError
from octo_service.model.heads import ACTION_HEADS
from octo_service.model.parameters import Shapes
from octo_service.model.tokens import matching
from octo_service.training.initialization import POSITION_DEVIATION, initial_leaves
from octo_service.training.recordings import CameraSource
from vla_server_base.datasets.keys import camera_name

Config = dict[str, Any]
COMPONENTS = "octo.model.components"
NEW_CAMERA = (128, 128)
"""Height and width of a new camera's images, as those of the released checkpoints' wrist camera."""


@dataclass(frozen=True, kw_only=True)
class Robot:
    """The robot that a policy is made for."""

    cameras: tuple[str, ...]
    proprio: bool
    """Whether it sees its robot's own numbers."""
    action_dim: int
    horizon: int | None = None
    """Actions of a chunk; None leaves the checkpoint's."""
    head: str | None = None
    """The kind of action head; None leaves the checkpoint's."""


def policy_for(robot: Robot, model: Config) -> Config:
    """Return `config["model"]` of a checkpoint, changed for a robot.

    Tokenizers of what the robot lacks are left out; one for a new camera is like the first one's.

    Raises:
        TrainingError: a head that is not known.
    """
    model = copy.deepcopy(model)
    tokenizers = model["observation_tokenizers"]
    template = next((spec for spec in tokenizers.values() if spec["name"] == "ImageTokenizer"), None)
    names = [f"image_{camera}" for camera in robot.cameras] + ["proprio"] * robot.proprio
    for name, spec in list(tokenizers.items()):
        if not matching(_read_by(spec), names):
            del tokenizers[name]
    for name in names:
        if not any(matching(_read_by(spec), [name]) for spec in tokenizers.values()):
            own = _proprio_tokenizer() if name == "proprio" else _image_tokenizer(template, name)
            tokenizers[name.removeprefix("image_")] = own
    model["heads"]["action"] = _head_for(robot, model["heads"]["action"])
    return model


def _read_by(spec: Mapping[str, Any]) -> list[str]:
    """Return the patterns of the observations that a tokenizer reads."""
    key = "obs_stack_keys" if spec["name"] == "ImageTokenizer" else "obs_keys"
    return spec["kwargs"].get(key, ["image_.*", "depth_.*"])


def _proprio_tokenizer() -> Config:
    # As in the reference's example, where `discretize` stays False: each number is a token, and bins go unused.
    bins = {"n_bins": 256, "bin_type": "normal", "low": -2.0, "high": 2.0, "obs_keys": ["proprio"]}
    return _spec("tokenizers", "LowdimObsTokenizer", **bins)


def _image_tokenizer(template: Mapping[str, Any] | None, name: str) -> Config:
    if template is None:
        raise TrainingError(
            "the checkpoint takes no images, so it has no image tokenizer to copy for a new camera",
            hint="start from a checkpoint with a camera",
        )
    spec = copy.deepcopy(dict(template))
    spec["kwargs"]["obs_stack_keys"] = [name]
    if spec["kwargs"].get("task_stack_keys"):
        spec["kwargs"]["task_stack_keys"] = [name]
    return spec


def _head_for(robot: Robot, head: Config) -> Config:
    if robot.head not in (None, head["name"]):
        if robot.head not in ACTION_HEADS:
            raise TrainingError(f"there is no head '{robot.head}'", hint=f"available: {', '.join(ACTION_HEADS)}")
        kept = {name: head["kwargs"][name] for name in ("readout_key", "action_horizon") if name in head["kwargs"]}
        head = _spec("action_heads", robot.head, **kept)
    head["kwargs"]["action_dim"] = robot.action_dim
    if robot.horizon is not None:
        head["kwargs"]["action_horizon"] = robot.horizon
    return head


def _spec(module: str, name: str, **kwargs: Any) -> Config:
    return {"module": f"{COMPONENTS}.{module}", "name": name, "args": [], "kwargs": kwargs}


class Merged(NamedTuple):
    """Parameters to begin with, and where they come from; `dropped` are those that are no longer used."""

    params: dict[str, np.ndarray]
    kept: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]


def merge(
    shapes: Shapes, stored: Mapping[str, np.ndarray], seed: int, position_deviation: float = POSITION_DEVIATION
) -> Merged:
    """Take every stored parameter that has a place and its shape; draw the others."""
    kept = [path for path, shape in shapes.items() if path in stored and stored[path].shape == tuple(shape)]
    new = initial_leaves({path: shapes[path] for path in shapes.keys() - set(kept)}, seed, position_deviation)
    params = {path: new[path] if path in new else stored[path] for path in sorted(shapes)}
    return Merged(
        params=params,
        kept=tuple(sorted(kept)),
        new=tuple(sorted(new)),
        dropped=tuple(sorted(stored.keys() - set(kept))),
    )


def describe(merged: Merged) -> str:
    """Say for people what is new, kept and dropped: how many arrays, by the module that they belong to."""
    lines = []
    for name in ("kept", "new", "dropped"):
        paths = getattr(merged, name)
        modules = Counter("/".join(path.split("/")[:2]) for path in paths)
        # What is kept needs no list: that is the rule.
        listed = "" if name == "kept" else ": " + ", ".join(f"{module} ({n})" for module, n in modules.items())
        lines.append(f"{name:<8} {len(paths):>4} arrays{listed if paths else ''}")
    return "\n".join(lines)


def chosen_cameras(
    asked: Sequence[str], recorded: Mapping[str, tuple[int, int]], known: Mapping[str, tuple[int, int]]
) -> dict[str, CameraSource]:
    """Return which of the dataset's cameras is which of the policy's: those of one name, or those that are `asked` for.

    One is asked for as "name=source" or "name=source@size"; `recorded` and `known` are the dataset's and the policy's
    cameras, with the height and width of their images. A name that is not known is a new camera's.

    Raises:
        TrainingError: no camera is left, or an option cannot be read.
    """
    if not asked:
        asked = [f"{name}={name}" for name in known if name in recorded]
    if not asked:
        raise TrainingError(
            f"the dataset has the cameras {', '.join(recorded) or 'none'}, the policy takes {', '.join(known)}",
            hint=f"map them, such as --camera {next(iter(known), 'primary')}={next(iter(recorded), 'top')}",
        )
    cameras = {}
    for text in asked:
        match = re.fullmatch(r"(\w+)=([^@]+)(?:@(\d+))?", text)
        if match is None:
            raise TrainingError(
                f"--camera {text} is not name=source, or name=source@size", hint="write, for example, primary=top@256"
            )
        name, source, size = match.groups()
        source = source if source in recorded else camera_name(source)
        height, width = (int(size), int(size)) if size else known.get(name, NEW_CAMERA)
        cameras[name] = CameraSource(source=source, height=height, width=width)
    return cameras

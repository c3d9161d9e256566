"""The nouns that the server and every policy share: observation, window, task, action chunk, spec. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vla_server_base.execution import Execution

Image = UInt8[np.ndarray, "height width 3"]
# The arrays one policy takes for one request; their names and shapes are the policy's own business.
PolicyArrays = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one robot saw at one timestep.

    `images` are RGB, keyed by the policy's camera names (`primary`, `wrist`), of any size;
    `proprio` is in the units of the data the policy was trained on.
    """

    images: Mapping[str, Image]
    proprio: Float[np.ndarray, " proprio_dim"] | None = None


@dataclass(frozen=True, kw_only=True)
class Window:
    """The stacked observations a policy attends to, oldest first.

    `timestep_pad_mask` is False where a timestep is padding: before an episode has filled the window,
    its first observation stands in the leading slots (Octo's `HistoryWrapper`).
    """

    observations: tuple[Observation, ...]
    timestep_pad_mask: Bool[np.ndarray, " window"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the robot is to do: an instruction, goal images by camera name, or both."""

    instruction: str | None = None
    goal_images: Mapping[str, Image] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PreviousChunk:
    """What is left of a robot's last chunk, for a policy whose next chunk is to continue it (real-time chunking).

    `actions` are rows as `predict` returned them, from the step of the request on. The first `inference_delay` of them
    will have been executed when the answer arrives, so the new chunk repeats them. From there to `execution_horizon`
    the new chunk is guided towards the old one, less and less.
    """

    actions: Float[np.ndarray, "rest action_dim"]
    inference_delay: int
    execution_horizon: int


@dataclass(frozen=True, kw_only=True)
class PolicyRequest:
    """One request to a policy, before its preprocessing: what the robot saw, and what it is to do.

    Noise is a function of (`seed`, `step`) alone. `dataset` is the one whose units the answer is in, None the policy's
    default. `previous` is only given to a policy that `supports_rtc`.
    """

    window: Window
    task: Task
    seed: int
    step: int = 0
    num_samples: int = 1
    dataset: str | None = None
    previous: PreviousChunk | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyInput:
    """One request as the policy takes it, preprocessed.

    `observation` has leading axes (1, window), `task` a leading axis (1,). Noise is a pure function of
    (`seed`, `step`) and of nothing else: not of other requests, not of the batch, not of `num_samples`. `dataset` is
    the one whose units the actions have, None for the policy's default. `previous` is what the chunk has to continue.
    """

    observation: PolicyArrays
    task: PolicyArrays
    seed: int
    step: int = 0
    num_samples: int = 1
    dataset: str | None = None
    previous: PreviousChunk | None = None


# Normalized action chunks for one request, of as many numbers as its dataset's actions have; row 0 is the one that
# `num_samples=1` would have given.
NormalizedChunks = Float[np.ndarray, "num_samples horizon action_dim"]


@dataclass(frozen=True, kw_only=True)
class Action:
    """What a request is answered with: the whole chunk and its first action in the asked-for format."""

    action: Float[np.ndarray, " numbers"]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    actions: Float[np.ndarray, "horizon action_dim"]


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """What the numbers of an action are, and in which formats it is answered, the first by default."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    formats: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """One camera of a policy: its name and the size in pixels that the policy works at.

    Every observation must have an image of a `required` camera.
    """

    name: str
    height: int
    width: int
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """What a loaded policy is, takes and gives; `/info` shows it, and every request is checked against it.

    Required: `model` (its name), `cameras` (the window must show the first one; `CameraSpec.required` asks for more),
    `horizon` (actions in a chunk), `action_names` and `action_units` (one entry per number of an action; `action_dim`
    follows from them). The rest has defaults:

    - `window`: observations that the policy attends to.
    - `action_formats`: the formats of a reply's `action`, the first by default: `raw` and `ee_delta` are the chunk's
      first action, `standard` is that and its last number, the gripper, once more.
    - `datasets`, `default_dataset`: whose statistics actions can be un-normalized with. `other_actions` describes the
      actions of datasets that differ from the default one's.
    - `proprio_dim`: numbers of proprio, None if the policy takes none; `proprio_names` and `proprio_units` say what
      they are, where the checkpoint does. With `requires_proprio` every observation must have it.
    - `takes_instruction`: False for a policy that does one task and reads no text.
    - `execution`, `execution_horizon`, `ensemble_weight`: how its chunks are meant to be executed, the default of every
      session and episode.
    - `control_hz`: the rate of its actions [1/s], None if the checkpoint does not say.
    - `supports_rtc`: whether `predict` honours `PolicyInput.previous`.
    - `weights`: "random" and "none" say that an action has the right shape and no meaning.
    - `platform` and `device`: where it runs, as JAX or PyTorch names them ("cpu", "gpu").
    - `details`: what only this kind of policy knows (parameter counts, framework versions); `checkpoint_hash` and
      `statistics_hash` where it knows them.
    """

    model: str
    cameras: tuple[CameraSpec, ...]
    horizon: int
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    action_dim: int = 0  # always set from `action_names`
    window: int = 1
    action_formats: tuple[str, ...] = ("raw",)
    datasets: tuple[str, ...] = ()
    default_dataset: str | None = None
    other_actions: Mapping[str, ActionSpec] = field(default_factory=dict)
    proprio_dim: int | None = None
    proprio_names: tuple[str, ...] = ()
    proprio_units: tuple[str, ...] = ()
    requires_proprio: bool = False
    takes_instruction: bool = True
    execution: Execution = "receding"
    execution_horizon: int = 1
    ensemble_weight: float = 0.0
    control_hz: float | None = None
    supports_rtc: bool = False
    takes_goal_images: bool = False
    max_instruction_chars: int = 1000
    weights: Literal["pretrained", "random", "none"] = "pretrained"
    revision: str | None = None
    platform: str = "cpu"
    device: str = "cpu"
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "action_dim", len(self.action_names))

    @cached_property
    def camera_names(self) -> tuple[str, ...]:
        """The names of `cameras`, in their order."""
        return tuple(camera.name for camera in self.cameras)

    @cached_property
    def actions(self) -> Mapping[str | None, ActionSpec]:
        """What actions are, by the dataset in whose units they are; None is the default dataset."""
        default = ActionSpec(names=self.action_names, units=self.action_units, formats=self.action_formats)
        by_dataset = {**dict.fromkeys(self.datasets, default), **self.other_actions}
        return {**by_dataset, None: by_dataset.get(self.default_dataset or "", default)}

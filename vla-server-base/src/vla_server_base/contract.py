"""The nouns that the server and every policy share: observation, window, task, chunk, adapter. No I/O."""

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

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
class PolicyInput:
    """One request as the policy takes it.

    `observation` has leading axes (1, window), `task` a leading axis (1,). Noise is a pure function of
    (`seed`, `step`) and of nothing else: not of other requests, not of the batch, not of `num_samples`. `dataset` is
    the one whose units the answer is to be in, None the policy's default.
    """

    observation: PolicyArrays
    task: PolicyArrays
    seed: int
    step: int = 0
    num_samples: int = 1
    dataset: str | None = None


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
    """One camera of a policy: its name and the size in pixels that the policy works at."""

    name: str
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """What a loaded policy is, takes and gives; `/info` shows it, requests are checked against it.

    `weights` says whether an answer means anything: "random" weights only have the right shapes.
    `action_dim`, `action_names`, `action_units` and `action_formats` are those of the default dataset, `other_actions`
    those of datasets that differ. `details` is what only this kind of policy knows (parameter counts, hashes, framework
    versions).
    """

    model: str
    revision: str | None
    weights: Literal["pretrained", "random", "none"]
    cameras: tuple[CameraSpec, ...]
    window: int
    horizon: int
    action_dim: int
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    action_formats: tuple[str, ...]
    datasets: tuple[str, ...]
    default_dataset: str | None
    platform: str
    device: str
    max_instruction_chars: int = 1000
    takes_goal_images: bool = False
    proprio_dim: int | None = None
    other_actions: Mapping[str, ActionSpec] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The names of `cameras`, in their order."""
        return tuple(camera.name for camera in self.cameras)

    def actions_of(self, dataset: str | None) -> ActionSpec:
        """Return what actions in the units of a dataset are, None being the default."""
        usual = ActionSpec(names=self.action_names, units=self.action_units, formats=self.action_formats)
        return self.other_actions.get(dataset or self.default_dataset or "", usual)


class VLAModelAdapter(abc.ABC):
    """One policy behind five steps, called in this order; a server knows nothing else of it.

    `load_model`, `warm_up_inputs`, `background_warm_up_inputs`, `predict` and `prefetch` run on the one device thread;
    the other steps may run on any thread, several at once, and must not touch the device.
    """

    @property
    @abc.abstractmethod
    def spec(self) -> PolicySpec:
        """Say what the loaded policy takes and gives. Only called after `load_model`."""

    @abc.abstractmethod
    def load_model(self, model_id: str, device: str, cache_dir: Path) -> None:
        """Load the policy named `model_id` (hub id, folder, or what ships with the package).

        `device` is "auto", "cpu" or "gpu"; `cache_dir` is where converted weights and compiled programs stay.

        Raises:
            ModelOutOfReach: for a reason that may pass; it is called again.
            ModelUnavailable: with a sentence that says what is missing and what to do.
        """

    def fit_image(self, camera: str, image: Image) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """Return a picture as small as the policy's own; `preprocess_observation` makes the same of it as of `image`.

        Pictures are kept so from when they are read. Without this they are kept as they were sent.
        """
        del camera
        return image

    @abc.abstractmethod
    def preprocess_observation(self, window: Window, dataset: str | None = None) -> PolicyArrays:
        """Return arrays with leading axes (1, window): images at the policy's sizes, pad masks, proprio.

        Proprio is in the units of `dataset`, None the policy's default.

        Raises:
            RequestError: it is nothing that the policy can take.
        """

    @abc.abstractmethod
    def preprocess_instruction(self, task: Task) -> PolicyArrays:
        """Return the policy's task with a leading axis (1,): tokens or embeddings, goal images, pad masks."""

    def unknown_words(self, instruction: str) -> tuple[str, ...]:
        """Return the words of an instruction that the policy's vocabulary does not cover; without this, none."""
        del instruction
        return ()

    @abc.abstractmethod
    def predict(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        """Run the policy; one entry per input, each what the input would have got alone."""

    def prefetch(self, policy_input: PolicyInput) -> Iterator[None]:
        """Prepare, piece by piece, for the request that goes on from this one: its window is this one and a step more.

        Each `next` does one piece of a few milliseconds, while no request waits; it may be that no other follows.
        What was prepared changes no answer, only how soon it comes. Without this, nothing is prepared.
        """
        del policy_input
        return iter(())

    @abc.abstractmethod
    def postprocess_action(
        self, chunk: Float[np.ndarray, "horizon action_dim"], dataset: str | None, action_format: str
    ) -> Action:
        """Un-normalize a chunk with the statistics of `dataset` and form the first action.

        Raises:
            UnknownName: a dataset or a format; with those that are available.
        """

    @abc.abstractmethod
    def warm_up_inputs(self) -> Iterable[PolicyInput]:
        """Give one input for every signature that requests usually have, so that all are compiled at start."""

    def background_warm_up_inputs(self) -> Iterable[PolicyInput]:
        """Give one for every other signature; these are compiled later, while nobody asks for anything."""
        return ()

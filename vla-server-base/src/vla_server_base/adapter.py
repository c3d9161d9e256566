"""VLAModelAdapter: what a policy implements so that a server can run it."""

import abc
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from vla_server_base.contract import (
    Action,
    Image,
    NormalizedChunks,
    Observation,
    PolicyArrays,
    PolicyInput,
    PolicySpec,
    Task,
    Window,
)
from vla_server_base.errors import UnknownName
from vla_server_base.monitoring.cache_lookups import CacheLookups


class VLAModelAdapter(abc.ABC):
    """One policy behind five steps: load, preprocess the observation and the task, predict, postprocess the action.

    A server knows nothing else of a policy. `spec`, `load_model`, `preprocess_observation`, `preprocess_instruction`
    and `predict` are required, the rest has defaults. `load_model`, `warm_up_inputs`, `background_warm_up_inputs`,
    `predict` and `prefetch` run on the one device thread; the other methods run on any thread, several at once, and
    must not touch the device.
    """

    @property
    @abc.abstractmethod
    def spec(self) -> PolicySpec:
        """Return what the loaded policy takes and gives. Only called after `load_model`."""

    @abc.abstractmethod
    def load_model(self, model_id: str, device: str, cache_dir: Path) -> None:
        """Load the policy named `model_id` (hub id, folder, or what ships with the package).

        `device` is "auto", "cpu" or "gpu"; `cache_dir` is where converted weights and compiled programs stay.

        Raises:
            ModelOutOfReach: the reason may pass (a hub that does not answer); it is called again.
            ModelUnavailable: any other reason; the message says what is missing, the hint what to do.
        """

    @abc.abstractmethod
    def preprocess_observation(self, window: Window, dataset: str | None = None) -> PolicyArrays:
        """Return arrays with leading axes (1, window): images at the policy's sizes, pad masks, proprio.

        Images are RGB and of any size; a camera that is not required may be missing from any timestep. Proprio is in
        the units of `dataset`, None for the policy's default, and missing unless `spec` requires it.

        Raises:
            RequestError: the policy cannot take this observation.
        """

    @abc.abstractmethod
    def preprocess_instruction(self, task: Task) -> PolicyArrays:
        """Return the policy's task with a leading axis (1,): tokens or embeddings, goal images, pad masks.

        Text that only `predict` can turn into tokens is an object array of str. A policy that reads no instruction gets
        tasks without one, and may return nothing.
        """

    @abc.abstractmethod
    def predict(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        """Return normalized chunks, one entry per input, each equal to what the input would get alone."""

    def predict_in_pieces(self, policy_input: PolicyInput) -> Iterator[NormalizedChunks]:
        """Return the samples of one input, some at a time, in order: other clients' inputs run between two pieces.

        All together they equal what `predict` returns for the input. By default there is one piece.
        """
        yield self.predict([policy_input])[0]

    def un_normalize(
        self, chunk: Float[np.ndarray, "horizon action_dim"], dataset: str | None
    ) -> Float[np.ndarray, "horizon action_dim"]:
        """Return a chunk in the units of `dataset`, which `spec` lists. By default a chunk has its units already."""
        del dataset
        return chunk

    def postprocess_action(
        self, chunk: Float[np.ndarray, "horizon action_dim"], dataset: str | None, action_format: str
    ) -> Action:
        """Un-normalize a chunk and form its first action: `standard` repeats the last number, the gripper.

        Raises:
            UnknownName: a dataset or a format; the hint lists those that `spec` has.
        """
        if dataset not in self.spec.datasets and (dataset is not None or self.spec.datasets):
            raise UnknownName("dataset", dataset or "", self.spec.datasets)
        action_spec = self.spec.actions[dataset]
        if action_format not in action_spec.formats:
            raise UnknownName("action_format", action_format, action_spec.formats)
        actions = self.un_normalize(chunk, dataset)
        order = [*range(len(action_spec.names)), *([-1] if action_format == "standard" else [])]
        return Action(
            action=actions[0, order],
            action_names=tuple(action_spec.names[i] for i in order),
            action_units=tuple(action_spec.units[i] for i in order),
            actions=actions,
        )

    def fit_image(self, camera: str, image: Image) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """Return an image no larger than the policy works at; `preprocess_observation` makes the same of either.

        A server keeps what this returns, not what was sent. By default that is the image as sent.
        """
        del camera
        return image

    def unknown_words(self, instruction: str) -> tuple[str, ...]:
        """Return the words of an instruction that the policy's vocabulary does not cover; by default none."""
        del instruction
        return ()

    def warm_up_inputs(self) -> Iterable[PolicyInput]:
        """Return one input for every signature that requests usually have, so that all are compiled at start.

        By default one: a full window of black images and zero proprio.
        """
        spec = self.spec
        images = {camera.name: np.zeros((camera.height, camera.width, 3), np.uint8) for camera in spec.cameras}
        proprio = None if spec.proprio_dim is None else np.zeros(spec.proprio_dim, np.float32)
        observations = (Observation(images=images, proprio=proprio),) * spec.window
        window = Window(observations=observations, timestep_pad_mask=np.ones(spec.window, bool))
        # A dot: any word might be missing from a vocabulary.
        task = self.preprocess_instruction(Task(instruction="." if spec.takes_instruction else None))
        return [PolicyInput(observation=self.preprocess_observation(window), task=task, seed=0)]

    def background_warm_up_inputs(self) -> Iterable[PolicyInput]:
        """Return one input for every other signature; these are compiled later, while the server is idle."""
        return ()

    def cache_lookups(self) -> Mapping[str, CacheLookups]:
        """Return how often each cache of the policy had what was looked up, by the cache's name; for `/metrics`.

        Called on any thread, also before `load_model`. By default none.
        """
        return {}

    def prefetch(self, policy_input: PolicyInput) -> Iterator[None]:
        """Prepare, piece by piece, for the next step of the session that sent `policy_input`.

        The next window is this one and one more observation. Each `next` does one piece of a few milliseconds while
        no request waits; the next step may never come. What is prepared changes how soon an answer comes, not the
        answer. By default nothing is prepared.
        """
        del policy_input
        return iter(())

    def without_parameters(self) -> "VLAModelAdapter":
        """Return a copy for a server whose policy runs in other processes: cloudpickle takes it, and it cannot predict.

        Its `spec`, `fit_image`, `unknown_words`, `un_normalize` and `postprocess_action` are those of the loaded
        policy. By default it is a plain copy: leave out what is large, or of this process.
        """
        return copy.copy(self)

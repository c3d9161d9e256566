"""OctoSmallAdapter: Octo behind the five steps that every server here calls."""

import importlib.metadata
import itertools
import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from cachetools import LRUCache, cachedmethod
from jaxtyping import Array, Float, UInt8

from octo_service import device
from octo_service.checkpoints.hub import resolve
from octo_service.config import OctoConfig
from octo_service.errors import CheckpointError, ConfigError, HubUnreachable, OctoError
from octo_service.inference.batched import BUCKETS, BatchedInference, honours_masks
from octo_service.inference.cache import CONTENT, NUM_OBSERVATIONS, InferenceCache, digest
from octo_service.model import OctoModel, random_weights, t5
from octo_service.model.prediction import Noise, draw_noise
from octo_service.preprocessing.dataset_statistics import dataset_names, statistics_of
from octo_service.preprocessing.images import resize_and_crop, resize_lanczos
from octo_service.preprocessing.statistics import (
    action_statistics,
    normalize,
    proprio_statistics,
    un_normalize,
)
from vla_server_base.contract import (
    Action,
    ActionSpec,
    CameraSpec,
    Image,
    NormalizedChunks,
    Observation,
    PolicyArrays,
    PolicyInput,
    PolicySpec,
    Task,
    VLAModelAdapter,
    Window,
)
from vla_server_base.errors import ModelOutOfReach, ModelUnavailable, RequestError, UnknownName
from vla_server_base.sessions.action_chunking import ObservationWindow

logger = logging.getLogger(__name__)

USUAL_DATASET = "bridge_dataset"
EE_DELTA = ActionSpec(
    names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    units=("m", "m", "m", "rad", "rad", "rad", "1 open, 0 closed"),
    formats=("standard", "ee_delta"),
)
# The camera whose pictures were cropped in training (the reference's `augmented_keys`).
CROPPED = "primary"
# Deviations from the mean; what is further off is of another robot, or in other units.
FARTHEST_PROPRIO = 1e6
# Samples of one observation run through the head in groups of this size: one program serves any number of them.
SAMPLE_GROUP = 8
# Memory for the prefills of robots; one of Octo-Small's, with both cameras, is 13 MB.
PREFILL_MB = 512
NUM_NOISES = 64
# The cameras that a timestep shows, and of how many numbers its proprio is.
Shown = tuple[tuple[str, ...], int | None]


class OctoSmallAdapter(VLAModelAdapter):
    """Serves any checkpoint of Octo, as `config` says: its `model` is only the one that is usual."""

    def __init__(self, config: OctoConfig | None = None):
        self._config = config or OctoConfig()
        self._resized: LRUCache[bytes, PolicyArrays] = LRUCache(NUM_OBSERVATIONS)
        self._resizing = threading.Lock()
        self._drawn: LRUCache[tuple[Any, ...], Noise] = LRUCache(NUM_NOISES)
        self._batched: BatchedInference | None = None

    @property
    def spec(self) -> PolicySpec:
        """Say what the loaded checkpoint takes and gives."""
        return self._spec

    def load_model(self, model_id: str, device: str, cache_dir: Path) -> None:
        """Load a checkpoint as `OctoModel.load_pretrained` does, onto `device` ("auto", "cpu", "gpu").

        Raises:
            ModelOutOfReach: the hub does not answer.
            ModelUnavailable: with a sentence that says what is missing and what to do.
        """
        try:
            self._load(model_id, device, cache_dir)
        except HubUnreachable as error:
            raise ModelOutOfReach(error.message, hint=error.hint) from error
        except OctoError as error:
            raise ModelUnavailable(error.message, hint=error.hint) from error

    def _load(self, model_id: str, platform: str, cache_dir: Path) -> None:
        device.prepare(platform, cache_dir)
        is_random = model_id.startswith(random_weights.SCHEME)
        source = None if is_random else resolve(model_id)
        folder = model_id if source is None else source.folder
        config = self._config
        self.model = OctoModel.load_pretrained(
            folder, tokenizer=config.tokenizer, cache_dir=cache_dir, precision=config.precision
        )
        if config.precision == "bf16" and not device.multiplies_bfloat16():
            logger.warning("this processor has no instructions for bf16: OCTO_PRECISION=highest is faster, and exact")
        self._inference_cache = InferenceCache(
            self.model.stepwise, lambda tokens: self.model.embed_text(**tokens), PREFILL_MB
        )
        statistics = self.model.dataset_statistics
        if not statistics:
            raise CheckpointError(
                "the checkpoint has no statistics (dataset_statistics.json is empty), so its actions have no units",
                hint="copy or download it again",
            )
        of_datasets = {name: statistics_of(statistics, name) for name in dataset_names(statistics) or (None,)}
        self._actions = {name: action_statistics(each["action"]) for name, each in of_datasets.items()}
        self._proprios = {
            name: proprio_statistics(each["proprio"])
            for name, each in of_datasets.items()
            if "proprio" in each and self.model.proprio_dim is not None
        }
        action_dims = {name: len(each.mean) for name, each in self._actions.items()}
        self._spec = _spec_of(self.model, model_id, source and source.revision, is_random, config, action_dims)
        if jax.default_backend() != "cpu" and honours_masks(self.model.octo):
            self._batched = BatchedInference(self.model)
            blank = next(self._blank_episode([self._all_there]))
            for size in BUCKETS[1:]:
                self.predict([blank] * size)

    def fit_image(self, camera: str, image: Image) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """Resize what is larger than the policy's own pictures, as `preprocess_observation` would.

        A picture that is cropped stays as it is: it is resized and cropped in one, and rounded once.
        """
        if not self._is_cropped(camera):
            for own in self.spec.cameras:
                if own.name == camera and image.size > 3 * own.height * own.width:
                    return resize_lanczos(image, own.height, own.width)
        return image

    def _is_cropped(self, camera: str) -> bool:
        return self._config.center_crop and camera == CROPPED

    def preprocess_observation(self, window: Window, dataset: str | None = None) -> PolicyArrays:
        """Resize every camera's pictures by lanczos, as the reference's wrapper does, and stack the window.

        What a timestep lacks is black, or zero, and masked in its `pad_mask_dict`, as in the reference's data. Proprio
        is normalized by the statistics of `dataset`, where it has some.

        Raises:
            RequestError: the proprio is far from all that the dataset has.
        """
        seen = {id(step): step for step in window.observations}  # padding repeats the first one
        normalized = {key: self._with_normalized_proprio(step, dataset) for key, step in seen.items()}
        preprocessed = {key: self._preprocessed(_content(step), step) for key, step in normalized.items()}
        steps = [preprocessed[id(step)] for step in window.observations]
        stacked = jax.tree_util.tree_map(lambda *arrays: np.stack(arrays)[None], *steps)
        return {"timestep_pad_mask": window.timestep_pad_mask[None], **stacked}

    @cachedmethod(lambda self: self._resized, lambda _, content, _step: content.tobytes(), lambda self: self._resizing)
    def _preprocessed(self, content: UInt8[np.ndarray, "32"], step: Observation) -> PolicyArrays:
        arrays, is_there = {}, {}
        for camera in self.spec.cameras:
            name, image = f"image_{camera.name}", step.images.get(camera.name)
            is_there[name] = np.array(image is not None)
            black = np.zeros((camera.height, camera.width, 3), np.uint8)
            resize = resize_and_crop if self._is_cropped(camera.name) else resize_lanczos
            arrays[name] = black if image is None else resize(image, camera.height, camera.width)
        if self.spec.proprio_dim is not None:
            is_there["proprio"] = np.array(step.proprio is not None)
            nothing = np.zeros(self.spec.proprio_dim, np.float32)
            arrays["proprio"] = nothing if step.proprio is None else step.proprio
        return {**arrays, "pad_mask_dict": is_there, CONTENT: content}

    def _with_normalized_proprio(self, step: Observation, dataset: str | None) -> Observation:
        statistics = self._proprios.get(dataset or self.spec.default_dataset)
        if step.proprio is None or self.spec.proprio_dim is None:
            return step
        if statistics is None:
            return replace(step, proprio=np.asarray(step.proprio, np.float32))
        proprio = normalize(step.proprio, statistics)
        if (far := np.flatnonzero(statistics.mask & ~(np.abs(proprio) <= FARTHEST_PROPRIO))).size:
            index = int(far[0])
            raise RequestError(
                f"proprio.{index}: {step.proprio[index]:g} is given, the dataset has"
                f" {statistics.mean[index]:g} with a deviation of {statistics.std[index]:g}",
                hint="give it in the units of the data that the policy was trained on",
            )
        return replace(step, proprio=proprio)

    def preprocess_instruction(self, task: Task) -> PolicyArrays:
        """Tokenize the instruction; a goal image that is not given is black, which Octo takes for none."""
        texts = [task.instruction or ""]
        tasks = self.model.create_tasks(texts=texts)
        tasks["pad_mask_dict"]["language_instruction"][:] = bool(task.instruction)
        for camera in self.spec.cameras:
            if camera.name in task.goal_images:
                goal = resize_lanczos(task.goal_images[camera.name], camera.height, camera.width)
                tasks[f"image_{camera.name}"] = goal[None]
                tasks["pad_mask_dict"][f"image_{camera.name}"][:] = True
        tasks[CONTENT] = digest(task.goal_images, task.instruction)[None]
        return tasks

    def unknown_words(self, instruction: str) -> tuple[str, ...]:
        """Return the words that the text encoder's vocabulary does not cover."""
        return self.model.unknown_words(instruction)

    def predict(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        """Run Octo on each input: one pass through the transformer, however many samples are asked for.

        On a CPU one after the other, which takes no longer there; elsewhere several inputs share a pass.
        """
        if self._batched is None or len(batch) == 1:
            return [self._predict_one(policy_input) for policy_input in batch]
        noises, dims = [self._noises(each) for each in batch], [self._action_dim(each.dataset) for each in batch]
        chunks = self._batched.predict(batch, noises, dims)
        return [each[..., :action_dim] for each, action_dim in zip(chunks, dims, strict=True)]

    def _predict_one(self, policy_input: PolicyInput) -> NormalizedChunks:
        """Predict the first sample alone, whatever follows: how many there are changes no bit of it."""
        readout = self._inference_cache.read_out(policy_input.observation, policy_input.task)
        noises, dims = self._noises(policy_input), self._action_dim(policy_input.dataset)
        first = np.asarray(self.model.predict_chunk(readout, noises[0], embodiment_action_dim=dims))[..., :dims]
        if noises[0] is None:
            return np.broadcast_to(first, (policy_input.num_samples, *first.shape[1:]))
        chunks = [first]
        for start in range(1, len(noises), SAMPLE_GROUP):
            group = _stacked(noises[start : start + SAMPLE_GROUP])
            chunks.append(
                np.asarray(self.model.predict_chunk(readout, group, embodiment_action_dim=dims))[:, 0, :, :dims]
            )
        return np.concatenate(chunks)[: policy_input.num_samples]

    def _action_dim(self, dataset: str | None) -> int:
        statistics = self._actions.get(dataset or self.spec.default_dataset)
        return self.model.head.action_dim if statistics is None else len(statistics.mean)

    def prefetch(self, policy_input: PolicyInput) -> Iterator[None]:
        """Compute, layer by layer, what the window that goes on from this one will attend to."""
        yield from self._inference_cache.prefetch(policy_input.observation, policy_input.task)
        self._noise(policy_input, sample=0)

    def _noises(self, policy_input: PolicyInput) -> list[Noise]:
        return [self._noise(policy_input, sample) for sample in range(policy_input.num_samples)]

    def _noise(self, policy_input: PolicyInput, sample: int) -> Noise:
        window = policy_input.observation["timestep_pad_mask"].shape
        key = policy_input.seed, policy_input.step, sample, window
        if key not in self._drawn:
            self._drawn[key] = draw_noise(self.model.head, noise_key(*key[:3]), window)
        return self._drawn[key]

    def postprocess_action(
        self, chunk: Float[np.ndarray, "horizon action_dim"], dataset: str | None, action_format: str
    ) -> Action:
        """Un-normalize a chunk and form its first action.

        Raises:
            UnknownName: a dataset or a format; with those that are available.
        """
        spec = self.spec
        if dataset not in spec.datasets and (dataset is not None or spec.datasets):
            raise UnknownName("dataset", dataset or "", spec.datasets)
        own = spec.actions_of(dataset)
        if action_format not in own.formats:
            raise UnknownName("action_format", action_format, own.formats)
        actions = np.asarray(un_normalize(chunk, self._actions[dataset]))
        repeated = [len(own.names) - 1] if action_format == "standard" else []
        order = [*range(len(own.names)), *repeated]
        return Action(
            action=actions[0, order],
            action_names=tuple(own.names[i] for i in order),
            action_units=tuple(own.units[i] for i in order),
            actions=actions,
        )

    def warm_up_inputs(self) -> Iterable[PolicyInput]:
        """Give the first camera alone, and all there is, until the window is full."""
        for shown in self._usually_there:
            yield from self._blank_episode([shown] * self.spec.window)

    def background_warm_up_inputs(self) -> Iterable[PolicyInput]:
        """Give what robots miss in a single timestep, and what they seldom show throughout; then several samples."""
        cameras, rest = self.spec.camera_names, [self._all_there] * (self.spec.window - 1)
        subsets = [[name for i, name in enumerate(cameras) if bits >> i & 1] for bits in range(1, 2 ** len(cameras))]
        sets = list(itertools.product(map(tuple, subsets), dict.fromkeys([self.spec.proprio_dim, None])))
        for some in [some for some in sets[::-1] if some != self._all_there]:
            yield from self._blank_episode([*rest, some, *rest])
        for some in [some for some in sets if some not in self._usually_there]:
            yield from self._blank_episode([some] * self.spec.window)
        yield replace(next(self._blank_episode([self._all_there])), num_samples=2)

    @property
    def _all_there(self) -> Shown:
        return self.spec.camera_names, self.spec.proprio_dim

    @property
    def _usually_there(self) -> Collection[Shown]:
        return dict.fromkeys([(self.spec.camera_names[:1], None), self._all_there])

    def _blank_episode(self, steps: Iterable[Shown]) -> Iterator[PolicyInput]:
        task = self.preprocess_instruction(Task(instruction="."))  # no word, which a vocabulary might lack
        history = ObservationWindow(self.spec.window)
        for step, (cameras, proprio_dim) in enumerate(steps):
            images = {name: np.zeros((224, 224, 3), np.uint8) for name in cameras}
            proprio = None if proprio_dim is None else np.zeros(proprio_dim, np.float32)
            window = history.append(Observation(images=images, proprio=proprio))
            yield PolicyInput(observation=self.preprocess_observation(window), task=task, seed=0, step=step)


def _content(step: Observation) -> UInt8[np.ndarray, "32"]:
    return digest(step.images, None if step.proprio is None else step.proprio.tobytes())


def noise_key(seed: int, step: int, sample: int) -> Array:
    """Return the key of one sample of one step: the first of step 0 is the reference's `PRNGKey(seed)`."""
    key = jax.random.PRNGKey(np.uint32(seed))
    if step:
        key = jax.random.fold_in(key, step)
    return jax.random.fold_in(key, np.uint32(2**31 + sample)) if sample else key


def _stacked(noises: Sequence[Noise]) -> Noise:
    """Stack samples on a leading axis, the last repeated up to a whole group."""
    padded = [*noises, *[noises[-1]] * (SAMPLE_GROUP - len(noises))]
    if isinstance(padded[0], tuple):  # diffusion: x_T (batch, ...) and z (steps, batch, ...)
        starts, steps = zip(*padded, strict=True)
        return np.stack(starts), np.stack(steps, axis=1)
    return np.stack(padded)


def _spec_of(
    model: OctoModel,
    model_id: str,
    revision: str | None,
    is_random: bool,
    config: OctoConfig,
    action_dims: Mapping[str | None, int],
) -> PolicySpec:
    observation = model.example_batch["observation"]
    head = model.head
    datasets = dataset_names(model.dataset_statistics)
    if config.dataset is not None and config.dataset not in datasets:
        raise UnknownName("dataset", config.dataset, datasets)
    window = config.window or observation["timestep_pad_mask"].shape[1]
    if window > model.octo.max_horizon:
        raise ConfigError(
            f"OCTO_WINDOW={window}: this checkpoint attends to {model.octo.max_horizon} observations at most",
            hint=f"set OCTO_WINDOW to 1 to {model.octo.max_horizon}",
        )
    usual = USUAL_DATASET if USUAL_DATASET in datasets else datasets[0] if len(datasets) == 1 else None
    default = config.dataset or usual
    action_dim = action_dims.get(default, head.action_dim)
    actions = _action_spec(head.action_dim, action_dim)
    others = {name: dims for name, dims in action_dims.items() if name is not None and dims != action_dim}
    used = jax.devices()[0]
    return PolicySpec(
        model=model_id,
        revision=revision,
        weights="random" if is_random else "pretrained",
        cameras=tuple(
            CameraSpec(name=name.removeprefix("image_"), height=shape[2], width=shape[3])
            for name in model.octo.observation_names(observation)
            if name.startswith("image_") and (shape := observation[name].shape)
        ),
        window=window,
        horizon=head.action_horizon,
        action_dim=action_dim,
        action_names=actions.names,
        action_units=actions.units,
        action_formats=actions.formats,
        datasets=datasets,
        default_dataset=default,
        platform=used.platform,
        device=used.device_kind,
        takes_goal_images=any(name.startswith("image_") for name in model.example_batch["task"]),
        proprio_dim=model.proprio_dim,
        other_actions={name: _action_spec(head.action_dim, dims) for name, dims in others.items()},
        details=_details(model),
    )


def _action_spec(head_dim: int, action_dim: int) -> ActionSpec:
    """Say what an action of a dataset is: known of Octo's own, of which another has fewer numbers or more."""
    if head_dim == action_dim == len(EE_DELTA.names):
        return EE_DELTA
    names = tuple(f"action_{number}" for number in range(action_dim))
    return ActionSpec(names=names, units=("as in the dataset",) * action_dim, formats=("raw",))


def _details(model: OctoModel) -> dict[str, Any]:
    sizes = {path: int(np.prod(leaf.shape)) for path, leaf in model.checkpoint.params.items()}
    text = sum(size for path, size in sizes.items() if path.startswith(t5.ROOT))
    return {
        "step": model.checkpoint.step,
        "checkpoint_hash": model.checkpoint.params_hash,
        "statistics_hash": model.checkpoint.statistics_hash,
        "parameters": {"total": sum(sizes.values()), "text_encoder": text, "policy": sum(sizes.values()) - text},
        "head": type(model.head).__name__,
        "tokenizer": type(model.tokenizer).__name__ if model.tokenizer else None,
        "precision": model.precision,
        "versions": {name: importlib.metadata.version(name) for name in ("octo-service", "jax", "jaxlib")},
    }

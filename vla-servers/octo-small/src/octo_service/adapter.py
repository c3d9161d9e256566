"""OctoSmallAdapter: Octo behind the five steps that every server here calls."""

import importlib.metadata
import itertools
import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from cachetools import LRUCache, cachedmethod
from jaxtyping import Array, Float, UInt8

from octo_service import device
from octo_service.config import OctoConfig
from octo_service.errors import HubUnreachable, OctoError
from octo_service.hub import resolve
from octo_service.images import resize_lanczos
from octo_service.model import OctoModel, random_weights, t5
from octo_service.model.prediction import Noise, draw_noise
from octo_service.remembered import CONTENT, NUM_FRAMES, Remembered, digest
from octo_service.statistics import ActionStatistics, action_statistics, dataset_names, statistics_of, un_normalize
from octo_service.together import BUCKETS, Together, minds_masks
from vla_server_base.contract import (
    Action,
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
from vla_server_base.control_loop import ObservationWindow
from vla_server_base.errors import ModelOutOfReach, ModelUnavailable, UnknownName

logger = logging.getLogger(__name__)

USUAL_DATASET = "bridge_dataset"
EE_DELTA_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
EE_DELTA_UNITS = ("m", "m", "m", "rad", "rad", "rad", "1 open, 0 closed")
# Samples of one observation run through the head in groups of this size: one program serves any number of them.
SAMPLE_GROUP = 8
# What the pasts of robots may take; one of Octo-Small's, with both cameras, is 13 MB.
PAST_MB = 512
NUM_NOISES = 64
# The cameras that a timestep shows, and of how many numbers its proprio is.
Shown = tuple[tuple[str, ...], int | None]


class OctoSmallAdapter(VLAModelAdapter):
    """Serves any checkpoint of Octo, as `config` says: its `model` is only the one that is usual."""

    def __init__(self, config: OctoConfig | None = None):
        self._config = config or OctoConfig()
        self._resized: LRUCache[bytes, PolicyArrays] = LRUCache(NUM_FRAMES)
        self._resizing = threading.Lock()
        self._drawn: LRUCache[tuple[Any, ...], Noise] = LRUCache(NUM_NOISES)
        self._together: Together | None = None

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
            raise ModelOutOfReach(str(error)) from error
        except OctoError as error:
            raise ModelUnavailable(str(error)) from error

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
        self._remembered = Remembered(self.model.stepwise, lambda tokens: self.model.embed_text(**tokens), PAST_MB)
        self._action_statistics: dict[str | None, ActionStatistics] = {}
        statistics = self.model.dataset_statistics
        self._proprio = statistics.get("proprio") if not dataset_names(statistics) else None
        self._spec = _spec_of(self.model, model_id, source and source.revision, is_random, config.dataset)
        if jax.default_backend() != "cpu" and minds_masks(self.model.octo):
            self._together = Together(self.model)
            blank = next(self._blank_episode([self._all_there]))
            for size in BUCKETS[1:]:
                self.predict([blank] * size)

    def fit_image(self, camera: str, image: Image) -> Image:
        """Resize what is larger than the policy's own pictures, as `preprocess_observation` would."""
        for own in self.spec.cameras:
            if own.name == camera and image.size > 3 * own.height * own.width:
                return resize_lanczos(image, own.height, own.width)
        return image

    def preprocess_observation(self, window: Window) -> PolicyArrays:
        """Resize every camera's pictures by lanczos, as the reference's wrapper does, and stack the window.

        What a timestep lacks is black, or zero, and masked in its `pad_mask_dict`, as in the reference's data.
        """
        seen = {id(step): step for step in window.observations}  # padding repeats the first one
        preprocessed = {key: self._preprocessed(_content(step), step) for key, step in seen.items()}
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
            arrays[name] = black if image is None else resize_lanczos(image, camera.height, camera.width)
        if self.spec.proprio_dim is not None:
            is_there["proprio"] = np.array(step.proprio is not None)
            nothing = np.zeros(self.spec.proprio_dim, np.float32)
            arrays["proprio"] = nothing if step.proprio is None else self._normalized(step.proprio)
        return {**arrays, "pad_mask_dict": is_there, CONTENT: content}

    def _normalized(self, given: Float[np.ndarray, " proprio_dim"]) -> Float[np.ndarray, " proprio_dim"]:
        # A fine-tuned checkpoint was trained on one robot's normalized proprio (the reference's NormalizeProprio).
        proprio = np.asarray(given, np.float32)
        if self._proprio is None:
            return proprio
        scaled = (proprio - self._proprio["mean"]) / (self._proprio["std"] + 1e-8)
        return np.where(self._proprio.get("mask", True), scaled, proprio).astype(np.float32)

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

    def predict(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        """Run Octo on each input: one pass through the transformer, however many samples are asked for.

        On a CPU one after the other, which takes no longer there; elsewhere several inputs share a pass.
        """
        if self._together is None or len(batch) == 1:
            return [self._predict_one(policy_input) for policy_input in batch]
        return self._together.predict(batch, [self._noises(policy_input) for policy_input in batch])

    def _predict_one(self, policy_input: PolicyInput) -> NormalizedChunks:
        readout = self._remembered.read_out(policy_input.observation, policy_input.task)
        noises = self._noises(policy_input)
        if noises[0] is None or len(noises) == 1:
            chunk = np.asarray(self.model.predict_chunk(readout, noises[0]))
            return np.broadcast_to(chunk, (policy_input.num_samples, *chunk.shape[1:]))
        groups = [noises[start : start + SAMPLE_GROUP] for start in range(0, len(noises), SAMPLE_GROUP)]
        chunks = [np.asarray(self.model.predict_chunk(readout, _stacked(group)))[:, 0] for group in groups]
        return np.concatenate(chunks)[: policy_input.num_samples]

    def anticipate(self, policy_input: PolicyInput) -> Iterator[None]:
        """Compute, layer by layer, what the window that goes on from this one will attend to."""
        yield from self._remembered.ahead(policy_input.observation, policy_input.task)
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
        if action_format not in spec.action_formats:
            raise UnknownName("action_format", action_format, spec.action_formats)
        if dataset not in self._action_statistics:
            action = statistics_of(self.model.dataset_statistics, dataset)["action"]
            self._action_statistics[dataset] = action_statistics(action)
        actions = un_normalize(chunk, self._action_statistics[dataset])
        repeated = [actions.shape[-1] - 1] if action_format == "standard" else []
        order = [*range(actions.shape[-1]), *repeated]
        return Action(
            action=actions[0, order],
            action_names=tuple(spec.action_names[i] for i in order),
            action_units=tuple(spec.action_units[i] for i in order),
            actions=actions,
        )

    def warm_up_inputs(self) -> Iterable[PolicyInput]:
        """Give the first camera alone, and all there is, until the window is full."""
        for shown in self._usually_there:
            yield from self._blank_episode([shown] * self.spec.window)

    def rarer_inputs(self) -> Iterable[PolicyInput]:
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
        task = self.preprocess_instruction(Task(instruction="warm up"))
        history = ObservationWindow(self.spec.window)
        for step, (cameras, proprio_dim) in enumerate(steps):
            images = {name: np.zeros((224, 224, 3), np.uint8) for name in cameras}
            proprio = None if proprio_dim is None else np.zeros(proprio_dim, np.float32)
            window = history.append(Observation(images=images, proprio=proprio))
            yield PolicyInput(observation=self.preprocess_observation(window), task=task, seed=0, step=step)


def _content(step: Observation) -> UInt8[np.ndarray, "32"]:
    return digest(step.images, None if step.proprio is None else np.asarray(step.proprio, np.float32).tobytes())


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


def _spec_of(model: OctoModel, model_id: str, revision: str | None, is_random: bool, dataset: str | None) -> PolicySpec:
    observation = model.example_batch["observation"]
    head = model.head
    is_ee_delta = head.action_dim == len(EE_DELTA_NAMES)
    datasets = dataset_names(model.dataset_statistics)
    if dataset is not None and dataset not in datasets:
        raise UnknownName("dataset", dataset, datasets)
    usual = USUAL_DATASET if USUAL_DATASET in datasets else datasets[0] if len(datasets) == 1 else None
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
        window=observation["timestep_pad_mask"].shape[1],
        horizon=head.action_horizon,
        action_dim=head.action_dim,
        action_names=EE_DELTA_NAMES if is_ee_delta else tuple(f"action_{i}" for i in range(head.action_dim)),
        action_units=EE_DELTA_UNITS if is_ee_delta else ("as in the dataset",) * head.action_dim,
        action_formats=("standard", "ee_delta") if is_ee_delta else ("raw",),
        datasets=datasets,
        default_dataset=dataset or usual,
        platform=used.platform,
        device=used.device_kind,
        takes_goal_images=any(name.startswith("image_") for name in model.example_batch["task"]),
        proprio_dim=observation["proprio"].shape[-1] if model.octo.observation_names(["proprio"]) else None,
        details=_details(model),
    )


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

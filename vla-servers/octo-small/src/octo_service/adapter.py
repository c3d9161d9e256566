"""OctoSmallAdapter: Octo behind the contract that every server here calls."""

import copy
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, UInt8

from octo_service import device
from octo_service.checkpoints.hub import ResolvedModel, resolve
from octo_service.config import OctoConfig
from octo_service.errors import CheckpointError, HubUnreachable, OctoError
from octo_service.inference.batched import BUCKETS, BatchedInference, honours_masks
from octo_service.inference.cache import InferenceCache
from octo_service.inference.guides import guide_of
from octo_service.inference.noise_samples import SAMPLE_GROUP, NoiseSamples, stack_samples
from octo_service.inference.policy_spec import policy_spec
from octo_service.inference.warm_up import WarmUp, blank_task
from octo_service.model import OctoModel, random_weights
from octo_service.preprocessing.content import CONTENT, digest
from octo_service.preprocessing.dataset_statistics import dataset_names, statistics_of
from octo_service.preprocessing.images import resize_lanczos
from octo_service.preprocessing.observations import ObservationPreprocessor
from octo_service.preprocessing.statistics import action_statistics, proprio_statistics, un_normalize
from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import (
    Image,
    NormalizedChunks,
    PolicyArrays,
    PolicyInput,
    PolicySpec,
    Task,
    Window,
)
from vla_server_base.errors import ModelOutOfReach, ModelUnavailable
from vla_server_base.monitoring.cache_lookups import CacheLookups

logger = logging.getLogger(__name__)

# Memory for the prefills of robots; one of Octo-Small's, with both cameras, is 13 MB.
PREFILL_MB = 512


class OctoSmallAdapter(VLAModelAdapter):
    """Serves any checkpoint of Octo, as `config` says; Octo-Small is the default of `config.model`."""

    def __init__(self, config: OctoConfig | None = None):
        self._config = config or OctoConfig()
        self._batched: BatchedInference | None = None
        self._cache_lookups: Mapping[str, CacheLookups] = {}

    @property
    def spec(self) -> PolicySpec:
        """What the loaded checkpoint takes and gives."""
        return self._spec

    def load_model(self, model_id: str, device: str, cache_dir: Path) -> None:
        """Load a checkpoint as `OctoModel.load_pretrained` does, onto `device` ("auto", "cpu", "gpu").

        Raises:
            ModelOutOfReach: the hub does not answer.
            ModelUnavailable: the checkpoint cannot be used; the hint says what to do.
        """
        try:
            self._load(model_id, device, cache_dir)
        except HubUnreachable as error:
            raise ModelOutOfReach(error.message, hint=error.hint) from error
        except OctoError as error:
            raise ModelUnavailable(error.message, hint=error.hint) from error

    def _load(self, model_id: str, platform: str, cache_dir: Path) -> None:
        device.prepare(platform, cache_dir)
        source = None if model_id.startswith(random_weights.SCHEME) else resolve(model_id)
        config = self._config
        self.model = OctoModel.load_pretrained(
            model_id if source is None else source.folder,
            tokenizer=config.tokenizer,
            cache_dir=cache_dir,
            precision=config.precision,
        )
        if config.precision == "bf16" and not device.multiplies_bfloat16():
            logger.warning("this processor has no bf16 instructions: OCTO_PRECISION=highest is faster, and exact")
        self._tokenizer = self.model.tokenizer
        self._read_statistics(model_id, source)
        self._inference_cache = InferenceCache(
            self.model.stepwise, lambda tokens: self.model.embed_text(**tokens), PREFILL_MB
        )
        self._cache_lookups = self._inference_cache.lookups
        self._noise = NoiseSamples(self.model.head)
        self._batch_on_accelerator()

    def _read_statistics(self, model_id: str, source: ResolvedModel | None) -> None:
        statistics = self.model.dataset_statistics
        if not statistics:
            raise CheckpointError(
                "the checkpoint has no statistics (dataset_statistics.json is empty), so its actions have no units",
                hint="copy or download it again",
            )
        of_datasets = {name: statistics_of(statistics, name) for name in dataset_names(statistics) or (None,)}
        self._actions = {name: action_statistics(each["action"]) for name, each in of_datasets.items()}
        proprios = {
            name: proprio_statistics(each["proprio"])
            for name, each in of_datasets.items()
            if "proprio" in each and self.model.proprio_dim is not None
        }
        action_dims = {name: len(each.mean) for name, each in self._actions.items()}
        revision = None if source is None else source.revision
        self._spec = policy_spec(self.model, model_id, revision, source is None, self._config, action_dims)
        self._preprocessor = ObservationPreprocessor(self._spec, proprios, self._config.center_crop)

    def _batch_on_accelerator(self) -> None:
        """Prepare to answer several requests in one pass, which a CPU does no faster than one after the other."""
        if jax.default_backend() != "cpu" and honours_masks(self.model.octo):
            self._batched = BatchedInference(self.model)
            blank = self._warm_up.first()
            for size in BUCKETS[1:]:
                self.predict([blank] * size)
                if self.spec.supports_rtc:
                    self.predict([self._warm_up.continuing()] * size)

    def fit_image(self, camera: str, image: Image) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """Resize an image that is larger than the policy's own, as `preprocess_observation` would."""
        return self._preprocessor.fit_image(camera, image)

    def preprocess_observation(self, window: Window, dataset: str | None = None) -> PolicyArrays:
        """Resize images, normalize proprio by the statistics of `dataset`, mask what is missing, and stack the window.

        Raises:
            RequestError: the proprio is far from everything in the dataset.
        """
        return self._preprocessor.window(window, dataset)

    def preprocess_instruction(self, task: Task) -> PolicyArrays:
        """Tokenize the instruction; a missing goal image is black, which Octo takes for no goal."""
        tasks = self.model.create_tasks(texts=[task.instruction or ""])
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
        return () if self._tokenizer is None else self._tokenizer.unknown_words(instruction)

    def predict(self, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        """Run Octo on each input: one pass through the transformer for any number of samples.

        A CPU takes one input after the other, which is as fast there; other devices take several in one pass.
        """
        if self._batched is None or len(batch) == 1:
            return [self._predict_one(policy_input) for policy_input in batch]
        chunks: dict[bool, Iterator[NormalizedChunks]] = {}
        for is_guided in (False, True):
            group = [each for each in batch if (each.previous is not None) is is_guided]
            chunks[is_guided] = iter(self._predict_together(self._batched, group))
        return [next(chunks[each.previous is not None]) for each in batch]

    def _predict_together(self, batched: BatchedInference, batch: Sequence[PolicyInput]) -> list[NormalizedChunks]:
        """Predict inputs that are all guided, or all not."""
        noises, dims = [self._noise.of(each) for each in batch], [self._action_dim(each.dataset) for each in batch]
        guides = [guide for each in batch if (guide := guide_of(each.previous, self.model.head)) is not None]
        chunks = batched.predict(batch, noises, dims, guides)
        return [each[..., :action_dim] for each, action_dim in zip(chunks, dims, strict=True)]

    def _predict_one(self, policy_input: PolicyInput) -> NormalizedChunks:
        return np.concatenate(list(self.predict_in_pieces(policy_input)))

    def predict_in_pieces(self, policy_input: PolicyInput) -> Iterator[NormalizedChunks]:
        """Predict the first sample alone, the others in groups: the number of samples changes no bit of any."""
        readout = self._inference_cache.read_out(policy_input.observation, policy_input.task)
        num_samples, dims = policy_input.num_samples, self._action_dim(policy_input.dataset)
        noise = self._noise.draw(policy_input, 0)
        predict_chunk = functools.partial(
            self.model.predict_chunk,
            readout,
            embodiment_action_dim=dims,
            guide=guide_of(policy_input.previous, self.model.head),
        )
        first = np.asarray(predict_chunk(noise=noise))[..., :dims]
        if noise is None:
            yield np.broadcast_to(first, (num_samples, *first.shape[1:]))
            return
        yield first
        for start in range(1, num_samples, SAMPLE_GROUP):
            samples = range(start, min(start + SAMPLE_GROUP, num_samples))
            group = stack_samples([self._noise.draw(policy_input, sample) for sample in samples])
            yield np.asarray(predict_chunk(noise=group))[: len(samples), 0, :, :dims]

    def _action_dim(self, dataset: str | None) -> int:
        statistics = self._actions.get(dataset or self.spec.default_dataset)
        return self.model.head.action_dim if statistics is None else len(statistics.mean)

    def cache_lookups(self) -> Mapping[str, CacheLookups]:
        """Return how often task prefixes, observations and KV caches were there already; nothing before the load."""
        return self._cache_lookups

    def prefetch(self, policy_input: PolicyInput) -> Iterator[None]:
        """Compute, layer by layer, the KV cache of the window that continues this one."""
        yield from self._inference_cache.prefetch(policy_input.observation, policy_input.task)
        self._noise.draw(policy_input, sample=0)

    def un_normalize(
        self, chunk: Float[np.ndarray, "horizon action_dim"], dataset: str | None
    ) -> Float[np.ndarray, "horizon action_dim"]:
        """Un-normalize a chunk with the statistics of `dataset`."""
        return np.asarray(un_normalize(chunk, self._actions[dataset]))

    def without_parameters(self) -> "OctoSmallAdapter":
        """Return a copy that has the statistics and the vocabulary."""
        light = copy.copy(self)
        del light.model, light._inference_cache, light._noise
        light._batched, light._cache_lookups = None, {}
        return light

    def warm_up_inputs(self) -> Iterable[PolicyInput]:
        """Show the first camera alone, and everything, until the window is full."""
        return self._warm_up.usual()

    def background_warm_up_inputs(self) -> Iterable[PolicyInput]:
        """Show what robots miss in a single timestep, and rare subsets of the cameras; then several samples."""
        return self._warm_up.rare()

    @property
    def _warm_up(self) -> WarmUp:
        return WarmUp(self.spec, self.preprocess_instruction(blank_task()), self.preprocess_observation)

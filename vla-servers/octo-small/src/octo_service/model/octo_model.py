"""OctoModel: a checkpoint ready to use, with the names and semantics of the reference's class.

Follows octo/model/octo_model.py of octo-models/octo.
"""

import copy
import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from octo_service.checkpoints import checkpoint as checkpoints
from octo_service.checkpoints import hub
from octo_service.checkpoints.checkpoint import Checkpoint
from octo_service.checkpoints.checks import check_finite, check_params
from octo_service.checkpoints.flax_msgpack import nested
from octo_service.checkpoints.saving import save_checkpoint
from octo_service.checkpoints.tokenizer import checkpoint_tokenizer
from octo_service.checkpoints.weight_file import leave_to_disk
from octo_service.errors import InputError
from octo_service.model import Precision, prediction, random_weights, t5
from octo_service.model.description import description
from octo_service.model.heads import ActionHead
from octo_service.model.heads.guidance import Guide
from octo_service.model.inputs import checked_inputs, make_tasks
from octo_service.model.octo import Octo
from octo_service.model.octo_config import build_octo
from octo_service.model.parameters import Leaves, stack_layers
from octo_service.model.prediction import Noise, compiled, draw_noise, on_device, on_host
from octo_service.model.shapes import expected_shapes
from octo_service.model.stepwise import StepwiseOcto
from octo_service.model.text_encoder import TextEncoder
from octo_service.model.tokens import Arrays, TokenGroup
from octo_service.preprocessing import text
from octo_service.preprocessing.dataset_statistics import check_statistics
from octo_service.preprocessing.statistics import action_statistics, check_form, un_normalize
from octo_service.preprocessing.text import TextTokenizer

logger = logging.getLogger(__name__)

MAX_WARNINGS = 1000
"""Of unknown words, whose number clients do not limit."""


@jax.tree_util.register_pytree_node_class
class OctoModel:
    """One Octo, loaded: tasks from texts and goal images, embeddings and actions from observations.

    ```python
    model = OctoModel.load_pretrained("hf://rail-berkeley/octo-small-1.5")
    task = model.create_tasks(texts=["pick up the spoon"])
    actions = model.sample_actions(observation, task, rng=jax.random.PRNGKey(0))
    ```

    It compiles what it needs by itself. It is a pytree, as the reference's is: `jax.jit` of its methods works too, and
    of functions that take it.
    """

    def __init__(self, checkpoint: Checkpoint, tokenizer: TextTokenizer | None, precision: Precision = "highest"):
        self.checkpoint = checkpoint
        self.precision: Precision = precision
        self.tokenizer = tokenizer
        self._warned_of: set[str] = set()
        self._origin, self._dataset_statistics = self, checkpoint.dataset_statistics
        self.octo: Octo = build_octo(checkpoint.config["model"])
        shapes = {path: leaf.shape for path, leaf in checkpoint.params.items()}
        self._t5_sizes = t5.sizes_of(shapes)
        check_params(shapes, expected_shapes(self.octo, checkpoint.example_batch, self._t5_sizes))
        check_finite(checkpoint.params)
        check_statistics(checkpoint.dataset_statistics, self.head.action_dim, self.proprio_dim)
        params = checkpoint.params
        self._text_encoder = TextEncoder(params, self._t5_sizes) if self._t5_sizes else None
        heads = {path: leaf for path, leaf in params.items() if path.startswith("heads_")}
        self._heads = on_device(stack_layers(heads))
        # Nothing is kept twice: a mapped file gives its memory back, other arrays become views on the device's.
        if not leave_to_disk(params[next(iter(params))]) and all(leaf.dtype == np.float32 for leaf in params.values()):
            text = self._text_encoder.params if self._text_encoder else {}
            self.checkpoint = dataclasses.replace(checkpoint, params={**params, **text, **on_host(self._heads).single})
        self._run_transformer = compiled(functools.partial(prediction.run_transformer, self.octo))
        self._read_out = compiled(functools.partial(prediction.read_out, self.octo))
        self._predict_chunk = compiled(functools.partial(prediction.predict_chunk, self.head))

    @classmethod
    def load_pretrained(
        cls,
        checkpoint_path: str | Path,
        step: int | None = None,
        tokenizer: str | Path | None = None,
        cache_dir: Path | None = None,
        precision: Precision = "highest",
    ) -> "OctoModel":
        """Load a checkpoint: a folder, `hf://organization/name[@revision]`, or `random://octo-small-1.5`.

        `step` chooses among several in one folder (the latest by default). `tokenizer` is a `spiece.model` or
        `tokenizer.json`; by default it is the checkpoint's own, or the one it names comes from the hub. Converted
        weights stay in `cache_dir` and are memory-mapped from then on. `precision` is that of `stepwise`.

        Raises:
            HubError, CheckpointError, TokenizerError, ModelConfigError: one sentence that says what to do.
        """
        name, path = str(checkpoint_path), Path(tokenizer) if tokenizer else None
        if name.startswith(random_weights.SCHEME):
            checkpoint = random_weights.random_checkpoint(name)
            return cls(checkpoint, checkpoint_tokenizer(checkpoint, path), precision)
        checkpoint = checkpoints.load_checkpoint(hub.resolve(name, step=step).folder, step, cache_dir)
        options = text.tokenizer_options(checkpoint.config)
        if path is None and checkpoint.vocabulary is None and options is not None:
            path = hub.fetch_tokenizer(options.name)
        return cls(checkpoint, checkpoint_tokenizer(checkpoint, path), precision)

    @functools.cached_property
    def stepwise(self) -> StepwiseOcto:
        """The network for reading out one timestep at a time: what `read_out` gives, without doing anything twice."""
        inside = self._transformers_params()
        stepwise = StepwiseOcto(self.octo, inside, self.head.readout_key, self.precision)
        leave_to_disk(next(iter(inside.values())))
        return stepwise

    @functools.cached_property
    def leaves(self) -> Leaves:
        """All parameters but the text encoder's, on the device, for whole windows at once."""
        params = self._transformers_params()
        transformer = on_device(stack_layers(params))
        leave_to_disk(next(iter(params.values())))
        return Leaves({**transformer.single, **self._heads.single}, transformer.stacks)

    @functools.cached_property
    def _text_leaves(self) -> Leaves:
        return Leaves({}, {}) if self._text_encoder is None else self._text_encoder.leaves

    def tree_flatten(self) -> "tuple[tuple[Any, ...], OctoModel]":
        """Return what a program takes of it, and the model that was loaded."""
        statistics = _numbers_in(self.dataset_statistics)
        return (self.leaves, self._heads, self._text_leaves, statistics), self._origin

    @classmethod
    def tree_unflatten(cls, origin: "OctoModel", children: tuple[Any, ...]) -> "OctoModel":
        """Return the model with other arrays in the place of what it predicts with."""
        model = copy.copy(origin)
        names = ("leaves", "_heads", "_text_leaves", "_dataset_statistics")
        vars(model).update(zip(names, children, strict=True))
        return model

    def _transformers_params(self) -> dict[str, np.ndarray]:
        return {path: leaf for path, leaf in self.checkpoint.params.items() if _is_transformers(path)}

    @property
    def config(self) -> dict[str, Any]:
        """The checkpoint's config.json."""
        return self.checkpoint.config

    @property
    def dataset_statistics(self) -> dict[str, Any]:
        """Statistics of the data it was trained on: by dataset, or flat if it was fine-tuned on one."""
        return self._dataset_statistics

    @property
    def example_batch(self) -> dict[str, Any]:
        """One batch of training data; says which observations and tasks the model takes."""
        return self.checkpoint.example_batch

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as nested dicts, by the released names."""
        return nested(self.checkpoint.params)

    def create_tasks(
        self, goals: Mapping[str, np.ndarray] | None = None, texts: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Make tasks of instructions, of goal images `{"image_primary": (batch, height, width, 3)}`, or of both.

        Raises:
            InputError: neither given, different batch sizes, or goals of a shape the model does not take.
        """
        tasks = make_tasks(self.example_batch["task"], self.tokenizer, goals, texts)
        for given in texts or ():
            self._warn_of_unknown_words(given)
        return tasks

    def unknown_words(self, instruction: str) -> tuple[str, ...]:
        """Return the words of an instruction that the vocabulary does not cover: to the policy all are the same."""
        return () if self.tokenizer is None else self.tokenizer.unknown_words(instruction)

    def _warn_of_unknown_words(self, instruction: str) -> None:
        for word in self.unknown_words(instruction):
            if word not in self._warned_of and len(self._warned_of) < MAX_WARNINGS:
                self._warned_of.add(word)
                logger.warning("the policy's vocabulary does not cover the word %r of an instruction", word[:80])

    def run_transformer(
        self, observations: Arrays, tasks: Arrays, timestep_pad_mask: Any, train: bool = False
    ) -> dict[str, TokenGroup]:
        """Return the embeddings of every token group, such as `["readout_action"].tokens`.

        Observations are (batch, window, ...), tasks (batch, ...) from `create_tasks`, `timestep_pad_mask` is
        (batch, window), False where a timestep is padding.

        Raises:
            InputError: shapes that do not fit the checkpoint.
        """
        _refuse_training(train)
        return self._run_transformer(self.leaves, *self.prepare(observations, tasks, timestep_pad_mask))

    def sample_actions(
        self,
        observations: Arrays,
        tasks: Arrays,
        unnormalization_statistics: Mapping[str, Any] | None = None,
        normalization_type: str = "normal",
        timestep_pad_mask: Any | None = None,
        train: bool = False,
        argmax: bool = False,
        sample_shape: tuple[int, ...] = (),
        rng: Array | None = None,
        temperature: float = 1.0,
        noise: Noise = None,
    ) -> Float[Array, "*samples batch horizon action_dim"]:
        """Sample action chunks for the last timestep of each window.

        Actions are normalized unless `unnormalization_statistics` are given, such as
        `model.dataset_statistics["bridge_dataset"]["action"]`; `normalization_type` is "normal" or "bounds".
        `rng` draws what the reference draws for the same key; `noise` takes the place of what would be drawn:
        (x_T, z) for a diffusion head, see `noise.py`. `argmax` and `temperature` are for discrete heads.

        Raises:
            InputError: shapes or statistics that do not fit the checkpoint, another `normalization_type`, or neither
                `rng` nor `noise` where one is needed.
        """
        _refuse_training(train)
        check_form(normalization_type)
        mask = observations.get("timestep_pad_mask") if timestep_pad_mask is None else timestep_pad_mask
        mask = observations.get("pad_mask") if mask is None else mask  # its name in checkpoints of 1.0
        readout = self.read_out(observations, tasks, mask)
        if noise is None:
            noise = draw_noise(self.head, rng, np.shape(mask), tuple(sample_shape), argmax)
        statistics = None if unnormalization_statistics is None else action_statistics(unnormalization_statistics)
        actions = self.predict_chunk(readout, noise, temperature, None if statistics is None else len(statistics.mean))
        if noise is None:
            actions = jnp.broadcast_to(actions, (*sample_shape, *actions.shape))
        return actions if statistics is None else jnp.asarray(un_normalize(actions, statistics, normalization_type))

    def save_pretrained(self, step: int, checkpoint_path: str | Path) -> None:
        """Write a checkpoint in the reference's layout; the reference and `load_pretrained` read it back."""
        save_checkpoint(Path(checkpoint_path), dataclasses.replace(self.checkpoint, step=step))

    def get_pretty_spec(self) -> str:
        """Describe for people what the model takes and gives."""
        return description(self.octo, self.example_batch)

    @property
    def head(self) -> ActionHead:
        """The action head."""
        return self.octo.heads["action"]

    @property
    def proprio_dim(self) -> int | None:
        """Of how many numbers the proprio is that it takes; None if it takes none."""
        example = self.example_batch["observation"].get("proprio")
        return example.shape[-1] if example is not None and self.octo.observation_names(["proprio"]) else None

    def read_out(self, observations: Arrays, tasks: Arrays, timestep_pad_mask: Any) -> TokenGroup:
        """Return the embeddings that the action head reads: all that `predict_chunk` needs.

        Raises:
            InputError: shapes that do not fit the checkpoint.
        """
        return self._read_out(self.leaves, *self.prepare(observations, tasks, timestep_pad_mask))

    def predict_chunk(
        self,
        readout: TokenGroup,
        noise: Noise = None,
        temperature: float = 1.0,
        embodiment_action_dim: int | Int[np.ndarray, " batch"] | None = None,
        guide: Guide | None = None,
    ) -> Float[Array, "*samples batch horizon action_dim"]:
        """Return the normalized chunk; several samples of one readout cost one pass through the transformer.

        Of an embodiment with fewer dimensions than the head's (all rows', or each row's), the others are masked. A
        `guide` is for diffusion heads: the chunk continues another one.

        Raises:
            InputError: it has more.
        """
        dims = self.head.action_dim if embodiment_action_dim is None else embodiment_action_dim
        if np.max(dims) > self.head.action_dim:
            raise InputError(
                f"the statistics are of {np.max(dims)} numbers, the head predicts {self.head.action_dim}",
                hint="pass statistics of this checkpoint: model.dataset_statistics",
            )
        return self._predict_chunk(self._heads, readout, noise, temperature, np.asarray(dims, np.int32), guide)

    def embed_text(self, input_ids: Any, attention_mask: Any) -> Float[Array, "batch tokens dim"]:
        """Return the text encoder's embedding of token ids; a task may carry it in their place."""
        if self._text_encoder is None:
            raise InputError("this checkpoint has no text encoder", hint="pass language_instruction as embeddings")
        if self._origin is not self or isinstance(input_ids, Tracer):
            return self._text_encoder.embed_within(self._text_leaves, input_ids, attention_mask)
        return self._text_encoder.embed(input_ids, attention_mask)

    def prepare(
        self, observations: Arrays, tasks: Arrays, timestep_pad_mask: Any
    ) -> tuple[Any, Any, np.ndarray | Array]:
        """Check everything against the checkpoint, embed the text, and keep only what the network reads.

        Raises:
            InputError: shapes that do not fit the checkpoint.
        """
        observations, tasks, mask = checked_inputs(
            self.octo, self.example_batch, observations, tasks, timestep_pad_mask
        )
        if isinstance(tasks.get("language_instruction"), Mapping):
            tasks["language_instruction"] = self.embed_text(**tasks["language_instruction"])
        return observations, tasks, mask


def _is_transformers(path: str) -> bool:
    return path.startswith("octo_transformer/") and not path.startswith(t5.ROOT)


def _numbers_in(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numeric entries of statistics; a compiled program takes no others."""
    nested = {name: _numbers_in(value) if isinstance(value, Mapping) else value for name, value in statistics.items()}
    return {name: value for name, value in nested.items() if isinstance(value, dict) or _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, Tracer) or not isinstance(value, np.ndarray) or value.dtype.kind in "biuf"


def _refuse_training(train: bool) -> None:
    if train:
        raise InputError("train=True: this class only predicts", hint="train with octo-service finetune")

"""What the reference's training recorded: losses, gradients, draws and optimizer steps, case by case."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.model import OctoModel, t5
from octo_service.model.octo import Octo
from octo_service.model.parameters import stack_layers
from octo_service.model.prediction import embed_text
from octo_service.model.tokens import TokenGroup
from octo_service.parity.inputs import build_inputs, tree
from octo_service.preprocessing.text import TextTokenizer, TokenizerOptions
from octo_service.training.losses import draw, loss_fn

GOLDENS = Path(__file__).parent / "goldens"
CHECKPOINTS = {
    "tiny_1_5": GOLDENS / "octo" / "tiny_ckpt",
    "aloha_l1": GOLDENS / "variants" / "aloha_l1" / "ckpt",
    "mse_map_obs": GOLDENS / "variants" / "mse_map_obs" / "ckpt",
    "discrete": GOLDENS / "variants" / "discrete" / "ckpt",
}
# The first layers' gradients pass through relus next to zero: the reference differs from itself by 1e-3 there.
SENSITIVE = ("StdConv_0", "StdConv_1", "GroupNorm_0", "GroupNorm_1")
HEAD = "heads_action/"
NORM = "octo_transformer/BlockTransformer_0/Transformer_0/encoder_norm/"


@dataclass(frozen=True, kw_only=True)
class RecordedTransformer(Octo):
    """An Octo whose transformer says what the reference's said, up to the scale and bias of its last norm."""

    normed: np.ndarray

    def run_transformer(self, parameters, observations, tasks, timestep_pad_mask) -> dict[str, TokenGroup]:
        norm, dim = parameters / NORM.rstrip("/"), self.normed.shape[-1]
        tokens = self.normed * norm.get("scale", dim) + norm.get("bias", dim)
        return {self.heads["action"].readout_key: TokenGroup(jnp.asarray(tokens), jnp.ones(tokens.shape[:-1], bool))}


@dataclass(frozen=True, kw_only=True)
class TrainingCase:
    """One batch, what the reference made of it (`spec`, `recorded`), and this model's answer to the same."""

    model: OctoModel
    octo: Octo
    params: Mapping[str, np.ndarray]
    """All but those of the text encoder, which are not trained."""
    batch: Mapping[str, Any]
    """Its instructions are embedded already."""
    spec: Mapping[str, Any]
    recorded: Mapping[str, np.ndarray]

    @functools.cached_property
    def gradient(self) -> Any:
        """(params, rng) -> ((loss, metrics), gradients of every leaf)."""

        def loss(params: Any, batch: Any, rng: Any, draws: Any) -> Any:
            return loss_fn(self.octo, params, batch, rng, draws)

        with jax.threefry_partitionable(False):
            lowered = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(
                dict(self.params), self.batch, self.rng, self.draws(self.rng)
            )
            # Compiling takes most of these tests' time, and far less so; a few steps are not worth more.
            compiled = lowered.compile({"xla_backend_optimization_level": 0})

        def gradient(params: Mapping[str, Any], rng: np.ndarray) -> Any:
            return jax.device_get(compiled(dict(params), self.batch, rng, self.draws(rng)))

        return gradient

    @functools.cached_property
    def from_readout(self) -> "TrainingCase":
        """The same case with the readout that was recorded: only the last norm and the head are computed."""
        params = {path: leaf for path, leaf in self.params.items() if path.startswith((NORM, HEAD))}
        normed = (self.recorded["readout"] - params[NORM + "bias"]) / params[NORM + "scale"]
        fields = {field.name: getattr(self.octo, field.name) for field in dataclasses.fields(self.octo)}
        return dataclasses.replace(self, octo=RecordedTransformer(**fields, normed=normed), params=params)

    def draws(self, rng: np.ndarray) -> Any:
        return draw(self.octo.heads["action"], rng, self.batch["action"].shape[:2])

    @property
    def rng(self) -> np.ndarray:
        return np.array([0, self.spec["seed"]], np.uint32)

    def has_gradient(self, path: str) -> bool:
        """Say whether a leaf's gradient is more than rounding."""
        return self.spec["leaves"][path]["grad_norm"] > 1e-6 * self.spec["result"]["grad_global_norm"]


@functools.cache
def training_case(variant: str, name: str) -> TrainingCase:
    folder = GOLDENS / "training" / variant
    arrays = np.load(folder / "golden.npz")
    recorded = {key.partition("/")[2]: arrays[key] for key in arrays if key.startswith(f"{name}/")}
    spec = json.loads((folder / "cases.json").read_text())["cases"][name]
    known = {
        text: [int(token) for token in ids if token][:-1]
        for text, ids in zip(spec["task"]["texts"], recorded["input_ids"], strict=True)
    }
    model = OctoModel(load_checkpoint(CHECKPOINTS[variant]), TextTokenizer(known.__getitem__, TokenizerOptions()))
    observation, task_arguments = build_inputs(spec)
    task = model.create_tasks(**task_arguments)
    if "language_pad_mask" in spec:
        task["pad_mask_dict"]["language_instruction"] = np.array(spec["language_pad_mask"])
    stored_params = model.checkpoint.params
    task["language_instruction"] = _embedded(stored_params, task["language_instruction"])
    batch = {
        "observation": observation,
        "task": task,
        "action": tree(spec["action"]),
        "action_pad_mask": tree(spec["action_pad_mask"]),
    }
    params = {path: leaf for path, leaf in stored_params.items() if not path.startswith(t5.ROOT)}
    return TrainingCase(model=model, octo=model.octo, params=params, batch=batch, spec=spec, recorded=recorded)


def _embedded(params: Mapping[str, np.ndarray], tokens: Mapping[str, np.ndarray]) -> jax.Array:
    encoder = {path: leaf for path, leaf in params.items() if path.startswith(t5.ROOT) and path != t5.EMBEDDING}
    sizes = t5.sizes_of({path: leaf.shape for path, leaf in params.items()})
    return _embed(sizes, encoder, params[t5.EMBEDDING][tokens["input_ids"]], tokens["attention_mask"])


@functools.partial(jax.jit, static_argnums=0)
def _embed(sizes: t5.T5Sizes, encoder: Any, rows: jax.Array, attention_mask: jax.Array) -> jax.Array:
    return embed_text(sizes, stack_layers(encoder, jnp.stack), rows, attention_mask)


def relative(found: Any, expected: Any) -> float:
    """Return the norm of the difference relative to the norm of what is expected."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30))

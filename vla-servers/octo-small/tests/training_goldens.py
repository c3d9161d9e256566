"""What the reference's training recorded: losses, gradients, draws and optimizer steps, case by case."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from octo_service.checkpoint import load_checkpoint
from octo_service.model import OctoModel, t5
from octo_service.parity.inputs import build_inputs, tree
from octo_service.text import TextTokenizer, TokenizerOptions
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


@dataclass(frozen=True, kw_only=True)
class TrainingCase:
    """One batch, what the reference made of it (`spec`, `recorded`), and this model's answer to the same."""

    model: OctoModel
    batch: Mapping[str, Any]
    spec: Mapping[str, Any]
    recorded: Mapping[str, np.ndarray]

    @property
    def params(self) -> dict[str, np.ndarray]:
        return dict(self.model.checkpoint.params)

    @functools.cached_property
    def gradient(self) -> Any:
        """(params, rng, train) -> ((loss, metrics), gradients of every leaf)."""
        octo = self.model.octo
        compiled = jax.jit(
            jax.value_and_grad(
                lambda params, batch, rng, draws, train: loss_fn(octo, params, batch, rng, draws, train), has_aux=True
            ),
            static_argnums=4,
        )

        def gradient(params: Mapping[str, Any], rng: np.ndarray, train: bool = True) -> Any:
            draws = draw(octo.heads["action"], rng, self.batch["action"].shape[:2])
            with jax.threefry_partitionable(False):
                return compiled(params, self.batch, rng, draws, train)

        return gradient

    @functools.cached_property
    def result(self) -> Any:
        return self.gradient(self.params, self.rng)

    @property
    def rng(self) -> np.ndarray:
        return np.array([0, self.spec["seed"]], np.uint32)

    def has_gradient(self, path: str) -> bool:
        """Say whether a leaf's gradient is more than rounding."""
        leaf = self.spec["leaves"].get(path)
        return leaf is not None and leaf["grad_norm"] > 1e-6 * self.spec["result"]["grad_global_norm"]


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
    batch = {
        "observation": observation,
        "task": task,
        "action": tree(spec["action"]),
        "action_pad_mask": tree(spec["action_pad_mask"]),
    }
    return TrainingCase(model=model, batch=batch, spec=spec, recorded=recorded)


def is_of_text_encoder(path: str) -> bool:
    return path.startswith(t5.ROOT)


def relative(found: Any, expected: Any) -> float:
    """Return the norm of the difference relative to the norm of what is expected."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30))

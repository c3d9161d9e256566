"""`random://octo-small-1.5`: a full architecture with seeded random weights, for tests, benchmarks and demos."""

import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from octo_service.checkpoint import Checkpoint
from octo_service.errors import ConfigError
from octo_service.model.octo import build_octo
from octo_service.model.parameters import random_leaves
from octo_service.model.shapes import expected_shapes
from octo_service.model.t5 import T5Sizes

SCHEME = "random://"
CAMERAS = {"primary": 256, "wrist": 128}
WINDOW = 2
TEXT_TOKENS = 16

# Transformer sizes of the released checkpoints; octo-tiny is for tests that need a policy but not its size.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "octo-small-1.5": {"dim": 384, "layers": 12, "heads": 6, "mlp_dim": 1536},
    "octo-base-1.5": {"dim": 768, "layers": 12, "heads": 12, "mlp_dim": 3072},
    "octo-tiny": {
        "dim": 64,
        "layers": 2,
        "heads": 4,
        "mlp_dim": 128,
        "stem": {"features": (32, 32, 32, 32), "num_features": 64},
        "head": {"hidden_dim": 64},
        "t5": T5Sizes(dim=16, num_layers=2, num_heads=2, head_dim=8, mlp_dim=32),
    },
}

# Moves a few centimetres and degrees a step, as the data does that Octo was trained on; the gripper within 0 to 1.
_STATISTICS = {
    "mean": np.array([0, 0, 0, 0, 0, 0, 0.5], np.float32),
    "std": np.array([0.01, 0.01, 0.01, 0.03, 0.03, 0.03, 0.1], np.float32),
    "mask": np.ones(7, bool),
}
_TEXT_PROCESSOR = {
    "name": "HFTokenizer",
    "kwargs": {"tokenizer_name": "t5-base", "tokenizer_kwargs": {"max_length": TEXT_TOKENS}},
}


def random_checkpoint(name: str) -> Checkpoint:
    """Make the checkpoint that `random://<architecture>[?seed=n]` names (seed 0 by default).

    Raises:
        ConfigError: for an architecture that is not known, listing those that are.
    """
    parts = urlsplit(name)
    sizes = dict(ARCHITECTURES.get(parts.netloc, {}))
    seed = parse_qs(parts.query).get("seed", ["0"])[0]
    if not sizes or not seed.isdecimal():
        known = ", ".join(f"{SCHEME}{known}" for known in ARCHITECTURES)
        raise ConfigError(f"'{name}' is not known; random weights exist for {known}, each with ?seed=<number>")
    t5_sizes = sizes.pop("t5", T5Sizes())  # of the parameters, not of the config: the reference has them from the hub
    config = {"model": _model_config(**sizes), "window_size": WINDOW, "text_processor": _TEXT_PROCESSOR}
    examples = example_batch()
    shapes = expected_shapes(build_octo(config["model"]), examples, t5_sizes)
    return Checkpoint(
        config=config,
        params=random_leaves(shapes, int(seed)),
        dataset_statistics={"random": {"action": _STATISTICS}},
        example_batch=examples,
        step=0,
        params_hash=hashlib.sha256(f"{name}?{seed}".encode()).hexdigest(),
        statistics_hash=hashlib.sha256(b"random").hexdigest(),
    )


def _spec(kind: str, **options: Any) -> dict[str, Any]:
    return {"name": kind, "kwargs": options}


def _model_config(
    dim: int,
    layers: int,
    heads: int,
    mlp_dim: int,
    stem: dict[str, Any] | None = None,
    head: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "observation_tokenizers": {
            camera: _spec(
                "ImageTokenizer",
                obs_stack_keys=[f"image_{camera}"],
                task_stack_keys=[f"image_{camera}"],
                encoder=_spec("SmallStem16", **(stem or {})),
            )
            for camera in CAMERAS
        },
        "task_tokenizers": {"language": _spec("LanguageTokenizer", encoder="t5-base")},
        "heads": {
            "action": _spec("DiffusionActionHead", readout_key="readout_action", action_horizon=4, **(head or {}))
        },
        "readouts": {"action": 1},
        "token_embedding_size": dim,
        "transformer_kwargs": {"num_layers": layers, "mlp_dim": mlp_dim, "num_attention_heads": heads},
        "max_horizon": 10,
        "repeat_task_tokens": True,
        "use_correct_attention": True,
    }


def example_batch() -> dict[str, Any]:
    """Return zeros of the shapes that the released 1.5 checkpoints take."""
    tokens = np.zeros((1, TEXT_TOKENS), np.int64)
    images = {f"image_{camera}": (size, size, 3) for camera, size in CAMERAS.items()}
    return {
        "observation": {
            **{key: np.zeros((1, WINDOW, *shape), np.uint8) for key, shape in images.items()},
            "timestep_pad_mask": np.ones((1, WINDOW), bool),
        },
        "task": {
            **{key: np.zeros((1, *shape), np.uint8) for key, shape in images.items()},
            "language_instruction": {"input_ids": tokens, "attention_mask": tokens},
        },
    }

"""An Octo of octo-tiny's size that sees pictures of 32 by 32: it trains in seconds."""

from dataclasses import replace
from typing import Any

import numpy as np

from octo_service.checkpoints.checkpoint import Checkpoint
from octo_service.checkpoints.stored_params import hash_of
from octo_service.model.architectures import ARCHITECTURES
from octo_service.model.octo import Octo
from octo_service.model.octo_config import build_octo
from octo_service.model.random_leaves import random_leaves
from octo_service.model.random_weights import random_checkpoint
from octo_service.model.shapes import expected_shapes
from octo_service.model.t5 import T5Sizes

HORIZON, ACTION_DIM, TEXT_DIM = 2, 3, 16
DIFFUSION = {"name": "DiffusionActionHead", "kwargs": {"hidden_dim": 128, "num_blocks": 1, "n_diffusion_samples": 16}}
REGRESSION = {"name": "MSEActionHead", "kwargs": {"use_map": False}}


def small_checkpoint(head: dict[str, Any], **transformer: Any) -> Checkpoint:
    checkpoint = random_checkpoint("random://octo-tiny")
    config = checkpoint.config
    encoder = {"name": "PatchEncoder", "kwargs": {"patch_size": 16, "num_features": 64}}
    camera = {"obs_stack_keys": ["image_primary"], "task_stack_keys": ["image_primary"], "encoder": encoder}
    sizes = {"action_horizon": HORIZON, "action_dim": ACTION_DIM, "readout_key": "readout_action"}
    config["model"] |= {
        "observation_tokenizers": {"primary": {"name": "ImageTokenizer", "kwargs": camera}},
        "heads": {"action": {"name": head["name"], "kwargs": {**sizes, **head["kwargs"]}}},
    }
    config["model"]["transformer_kwargs"] |= {
        "dropout_rate": 0.0,
        "attention_dropout_rate": 0.0,
        "num_layers": 1,
        **transformer,
    }
    tokens = np.zeros((1, 16), np.int64)
    examples = {
        "observation": {
            "image_primary": np.zeros((1, 1, 32, 32, 3), np.uint8),
            "timestep_pad_mask": np.ones((1, 1), bool),
        },
        "task": {
            "image_primary": np.zeros((1, 32, 32, 3), np.uint8),
            "language_instruction": {"input_ids": tokens, "attention_mask": tokens},
        },
    }
    sizes = T5Sizes(dim=TEXT_DIM, num_layers=2, num_heads=2, head_dim=8, mlp_dim=32)
    statistics = checkpoint.dataset_statistics["random"]["action"]
    params = random_leaves(expected_shapes(build_octo(config["model"]), examples, sizes), 0)
    return Checkpoint(
        config=config,
        params=params,
        dataset_statistics={"random": {"action": {name: values[:ACTION_DIM] for name, values in statistics.items()}}},
        example_batch=examples,
        step=0,
        params_hash=hash_of(params),
        statistics_hash=checkpoint.statistics_hash,
    )


def checkpoint_with_two_cameras_and_proprio(window: int) -> Checkpoint:
    """Return an octo-tiny of any window that takes pictures of 32 by 32 of two cameras, goals, and four numbers.

    Either camera and the numbers are as many tokens, so that few programs are compiled.
    """
    checkpoint = random_checkpoint("random://octo-tiny")
    model, examples = checkpoint.config["model"], checkpoint.example_batch
    model["observation_tokenizers"]["proprio"] = {"name": "LowdimObsTokenizer", "kwargs": {"obs_keys": ["proprio"]}}
    names, task = ("image_primary", "image_wrist"), examples["task"]
    observation = {name: np.zeros((1, window, 32, 32, 3), np.uint8) for name in names}
    observation |= {"proprio": np.zeros((1, window, 4), np.float32), "timestep_pad_mask": np.ones((1, window), bool)}
    examples = {"observation": observation, "task": task | {name: np.zeros((1, 32, 32, 3), np.uint8) for name in names}}
    shapes = expected_shapes(build_octo(model), examples, ARCHITECTURES["octo-tiny"].text)
    params = random_leaves(shapes, 0)
    return replace(checkpoint, params=params, example_batch=examples, params_hash=hash_of(params))


def small_octo(head: dict[str, Any], **transformer: Any) -> tuple[Octo, dict[str, np.ndarray]]:
    """Return the architecture and its parameters without the text encoder."""
    checkpoint = small_checkpoint(head, **transformer)
    params = {path: leaf for path, leaf in checkpoint.params.items() if "hf_model" not in path}
    return build_octo(checkpoint.config["model"]), params


def batch_of(size: int, seed: int, window: int = 1) -> dict[str, Any]:
    """Draw samples that have nothing in common, so that each must be learned by heart."""
    random = np.random.default_rng(seed)
    shape = (size, window, HORIZON, ACTION_DIM)
    return {
        "observation": {
            "image_primary": random.integers(0, 256, (size, window, 32, 32, 3), np.uint8),
            "timestep_pad_mask": np.ones((size, window), bool),
        },
        "task": {"language_instruction": random.standard_normal((size, 16, TEXT_DIM), np.float32)},
        "action": random.uniform(-1.5, 1.5, shape).astype(np.float32),
        "action_pad_mask": np.ones(shape, bool),
    }

"""Small real policies, made by LeRobot itself, as checkpoints on disk."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

STATE_DIM, ACTION_DIM, SIZE = 6, 6, 64


def features(*cameras: str, state_dim: int = STATE_DIM) -> dict[str, PolicyFeature]:
    images = {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)) for name in cameras}
    return {"observation.state": PolicyFeature(FeatureType.STATE, (state_dim,)), **images}


def actions() -> dict[str, PolicyFeature]:
    return {"action": PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))}


def statistics(config) -> dict[str, dict[str, torch.Tensor]]:
    """Draw statistics of every feature, of the shapes that a data set's have."""
    generator = torch.Generator().manual_seed(1)
    drawn = {}
    for name, feature in {**config.input_features, **config.output_features}.items():
        shape = (3, 1, 1) if feature.type is FeatureType.VISUAL else feature.shape
        mean, std = (torch.rand(shape, generator=generator) + offset for offset in (-0.5, 0.1))
        bounds = {"min": mean - 2 * std, "max": mean + 2 * std, "q01": mean - 1.9 * std, "q99": mean + 1.9 * std}
        drawn[name] = {"mean": mean, "std": std, **bounds}
    return drawn


def small_act(**fields) -> ACTConfig:
    chosen = {
        "input_features": features("top", "wrist"),
        "output_features": actions(),
        "device": "cpu",
        "chunk_size": 8,
        "n_action_steps": 4,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "latent_dim": 4,
        "pretrained_backbone_weights": None,
        **fields,
    }
    return ACTConfig(**chosen)


def save_checkpoint(config, folder: Path) -> Path:
    """Build a policy of a configuration with random weights and save it as LeRobot's trainer does."""
    torch.manual_seed(0)
    policy = get_policy_class(config.type)(config)
    pre, post = make_pre_post_processors(config, dataset_stats=statistics(config))
    policy.save_pretrained(folder)
    pre.save_pretrained(folder)
    post.save_pretrained(folder)
    return folder


def a_copy(checkpoint: Path, folder: Path) -> Path:
    """Copy a checkpoint's folder, its files as links."""
    folder.mkdir()
    for path in checkpoint.iterdir():
        os.link(path, folder / path.name)
    return folder


def rewrite(path: Path) -> Path:
    """Part a file of a copy from the original, to be written anew."""
    path.unlink()
    return path


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    rewrite(path).write_text(json.dumps(content))

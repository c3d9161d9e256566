"""Checkpoint folders of many policy types, written by LeRobot itself from small configs with random weights.

`python checkpoints_of_types.py act FOLDER` writes one.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tiny_backbones
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies import make_pre_post_processors
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.factory import get_policy_class
from lerobot.policies.multi_task_dit.configuration_multi_task_dit import MultiTaskDiTConfig
from lerobot.policies.pi0 import modeling_pi0, processor_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi05 import modeling_pi05, processor_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig
from lerobot.policies.xvla.configuration_xvla import XVLAConfig

STATE_DIM, ACTION_DIM = 8, 7
TOP, LEFT_WRIST = "observation.images.top", "observation.images.left_wrist"
SIZES = {TOP: (64, 96), LEFT_WRIST: (64, 64)}
"""Height and width of the cameras."""
SAME_SIZES = dict.fromkeys(SIZES, (64, 96))
"""For policies whose cameras must be of one size."""
CHUNKS_OF_8: dict[str, Any] = {"chunk_size": 8, "n_action_steps": 8}


def features(sizes: Mapping[str, tuple[int, int]], state_dim: int = STATE_DIM) -> dict[str, Any]:
    """Return the input and output features of a policy with these cameras, as arguments of its config."""
    inputs = {key: PolicyFeature(type=FeatureType.VISUAL, shape=(3, *size)) for key, size in sizes.items()}
    if state_dim:
        inputs["observation.state"] = PolicyFeature(type=FeatureType.STATE, shape=(state_dim,))
    outputs = {"action": PolicyFeature(type=FeatureType.ACTION, shape=(ACTION_DIM,))}
    return {"input_features": inputs, "output_features": outputs, "device": "cpu", "push_to_hub": False}


def act(folder: Path, **changes: Any) -> Path:
    """Write an ACT of a narrow transformer, two cameras of different sizes and chunks of 16."""
    settings = {
        "chunk_size": 16,
        "n_action_steps": 8,
        "dim_model": 64,
        "n_heads": 4,
        "dim_feedforward": 128,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "pretrained_backbone_weights": None,
    }
    return write(ACTConfig(**{**features(SIZES), **settings, **changes}), folder)


def act_ensemble(folder: Path) -> Path:
    """Write an ACT whose overlapping chunks are to be averaged."""
    return act(folder, n_action_steps=1, temporal_ensemble_coeff=0.01)


def diffusion(folder: Path, scheduler: str = "DDPM") -> Path:
    """Write a Diffusion Policy that sees two observations."""
    config = DiffusionConfig(
        **features(SAME_SIZES),
        horizon=16,
        n_action_steps=8,
        down_dims=(16, 32),
        diffusion_step_embed_dim=16,
        noise_scheduler_type=scheduler,
        num_train_timesteps=20,
        num_inference_steps=5,
        pretrained_backbone_weights=None,
        spatial_softmax_num_keypoints=8,
    )
    return write(config, folder)


def diffusion_ddim(folder: Path) -> Path:
    """Write one that draws noise only once."""
    return diffusion(folder, "DDIM")


def vqbet(folder: Path) -> Path:
    """Write a VQ-BeT of one camera that sees five observations."""
    config = VQBeTConfig(
        **features({TOP: (64, 96)}),
        crop_shape=(48, 64),
        pretrained_backbone_weights=None,
        spatial_softmax_num_keypoints=8,
        gpt_n_layer=1,
        gpt_n_head=2,
        **dict.fromkeys(("gpt_input_dim", "gpt_output_dim", "gpt_hidden_dim", "vqvae_enc_hidden_dim"), 32),
        vqvae_embedding_dim=32,
        bet_softmax_temperature=1.0,
    )
    return write(config, folder)


def multi_task_dit(folder: Path) -> Path:
    """Write a MultiTaskDiT that sees two observations and reads text."""
    backbone = str(tiny_backbones.clip(folder / "clip"))
    config = MultiTaskDiTConfig(
        **features(SAME_SIZES),
        horizon=16,
        n_action_steps=8,
        hidden_dim=32,
        num_layers=1,
        num_heads=2,
        timestep_embed_dim=16,
        num_train_timesteps=20,
        num_inference_steps=5,
        vision_encoder_name=backbone,
        text_encoder_name=backbone,
        image_resize_shape=(32, 32),
        image_crop_shape=None,
        tokenizer_max_length=40,
    )
    return write(config, folder)


def smolvla(folder: Path) -> Path:
    """Write a SmolVLA on a tiny VLM."""
    config = SmolVLAConfig(
        **features(SIZES),
        **CHUNKS_OF_8,
        vlm_model_name=str(tiny_backbones.smolvlm(folder / "vlm")),
        num_vlm_layers=2,
        resize_imgs_with_padding=(64, 64),
    )
    return write(config, folder)


def xvla(folder: Path) -> Path:
    """Write an X-VLA on a tiny Florence-2."""
    tiny_backbones.tokenizer(folder / "tokenizer")
    config = XVLAConfig(
        **features(SAME_SIZES),
        **CHUNKS_OF_8,
        florence_config=tiny_backbones.florence(),
        tokenizer_name=str(folder / "tokenizer"),
        hidden_size=32,
        depth=1,
        num_heads=2,
        num_domains=2,
        len_soft_prompts=2,
        action_mode="auto",
        resize_imgs_with_padding=(64, 64),
        num_denoising_steps=5,
    )
    return write(config, folder)


def pi0(folder: Path, **changes: Any) -> Path:
    """Write a π0 of a few parameters."""
    tiny_backbones.tokenizer(folder / "tokenizer")
    tiny_backbones.shrink_pi(modeling_pi0, processor_pi0, folder / "tokenizer")
    return write(PI0Config(**features(SIZES), **CHUNKS_OF_8, image_resolution=(28, 28), **changes), folder)


def pi0_relative(folder: Path) -> Path:
    """Write a π0 whose actions, but for the gripper's, are relative to the robot's state."""
    names = [*(f"joint_{number}.pos" for number in range(ACTION_DIM - 1)), "gripper.pos"]
    return pi0(folder, use_relative_actions=True, relative_exclude_joints=["gripper"], action_feature_names=names)


def pi05(folder: Path) -> Path:
    """Write a π0.5 of a few parameters; its prompt holds the robot's state."""
    tiny_backbones.tokenizer(folder / "tokenizer")
    tiny_backbones.shrink_pi(modeling_pi05, processor_pi05, folder / "tokenizer")
    return write(PI05Config(**features(SIZES), **CHUNKS_OF_8, image_resolution=(28, 28)), folder)


CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    each.__name__: each
    for each in (
        act,
        act_ensemble,
        diffusion,
        diffusion_ddim,
        vqbet,
        multi_task_dit,
        smolvla,
        xvla,
        pi0,
        pi0_relative,
        pi05,
    )
}


def write(config: PreTrainedConfig, folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint of random weights and made-up statistics, with both processors."""
    torch.manual_seed(seed)
    policy = get_policy_class(config.type)(config)
    for parameter in policy.parameters():
        if not parameter.any():  # as many heads begin: such a policy would answer zeros, whatever it sees
            torch.nn.init.normal_(parameter, std=0.1)
    pre, post = make_pre_post_processors(config, dataset_stats=statistics(config))
    for part in (policy, pre, post):
        part.save_pretrained(folder)
    return folder


def statistics(config: PreTrainedConfig) -> dict[str, dict[str, torch.Tensor]]:
    """Return statistics of every kind for the features of a config."""
    shapes = {
        key: (3, 1, 1) if feature.type is FeatureType.VISUAL else feature.shape
        for key, feature in {**(config.input_features or {}), **(config.output_features or {})}.items()
    }
    return {key: _statistics(shape) for key, shape in shapes.items()}


def _statistics(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    mean, std = torch.linspace(-0.2, 0.4, shape[0]).reshape(shape), torch.linspace(0.3, 0.9, shape[0]).reshape(shape)
    quantiles = {f"q{percent:02}": mean + std * (percent - 50) / 25 for percent in (1, 10, 50, 90, 99)}
    return {"mean": mean, "std": std, "min": mean - 2 * std, "max": mean + 2 * std, **quantiles}


if __name__ == "__main__":
    CHECKPOINTS[sys.argv[1]](Path(sys.argv[2]))

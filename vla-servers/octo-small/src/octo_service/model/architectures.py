"""Architectures by name: the released checkpoints', one for tests, and the one of the policy in the package."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from octo_service.model.t5 import T5Sizes

WINDOW = 2
TEXT_TOKENS = 16
TEXT_ENCODER = "t5-base"


@dataclass(frozen=True, kw_only=True)
class CameraTokens:
    """How one camera's images, `side` x `side`, become tokens of `patch_size` x `patch_size` pixels."""

    side: int
    patch_size: int = 16


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of an Octo; the defaults are what the released 1.5 checkpoints have in common.

    `stem` and `head` are further options of the image stems and of the action head; `text` is of the parameters, not
    of the config: the reference has it from the hub.
    """

    dim: int
    layers: int
    heads: int
    mlp_dim: int
    text: T5Sizes = field(default_factory=T5Sizes)
    cameras: Mapping[str, CameraTokens] = field(
        default_factory=lambda: {"primary": CameraTokens(side=256), "wrist": CameraTokens(side=128)}
    )
    stem: Mapping[str, Any] = field(default_factory=dict)
    head_name: str = "DiffusionActionHead"
    head: Mapping[str, Any] = field(default_factory=dict)
    takes_goal_images: bool = True
    max_horizon: int = 10
    repeat_task_tokens: bool = True
    position_deviation: float = 0.02
    """Of the position embeddings, as training from scratch draws them."""

    def config(self) -> dict[str, Any]:
        """Return config.json of such a checkpoint."""
        words = {"tokenizer_name": TEXT_ENCODER, "tokenizer_kwargs": {"max_length": TEXT_TOKENS}}
        return {
            "model": self._model(),
            "window_size": WINDOW,
            "text_processor": {"name": "HFTokenizer", "kwargs": words},
        }

    def _model(self) -> dict[str, Any]:
        return {
            "observation_tokenizers": {name: self._tokenizer(name, camera) for name, camera in self.cameras.items()},
            "task_tokenizers": {"language": _spec("LanguageTokenizer", encoder=TEXT_ENCODER)},
            "heads": {
                "action": _spec(
                    self.head_name, readout_key="readout_action", action_horizon=4, action_dim=7, **self.head
                )
            },
            "readouts": {"action": 1},
            "token_embedding_size": self.dim,
            "transformer_kwargs": {
                "num_layers": self.layers,
                "mlp_dim": self.mlp_dim,
                "num_attention_heads": self.heads,
                "dropout_rate": 0.0,
                "attention_dropout_rate": 0.0,
            },
            "max_horizon": self.max_horizon,
            "repeat_task_tokens": self.repeat_task_tokens,
            "use_correct_attention": True,
        }

    def _tokenizer(self, name: str, camera: CameraTokens) -> dict[str, Any]:
        image = f"image_{name}"
        return _spec(
            "ImageTokenizer",
            obs_stack_keys=[image],
            task_stack_keys=[image] if self.takes_goal_images else [],
            encoder=_spec(f"SmallStem{camera.patch_size}", **self.stem),
        )

    def example_batch(self) -> dict[str, Any]:
        """Return zeros of the shapes that such a checkpoint takes."""
        tokens = np.zeros((1, TEXT_TOKENS), np.int64)
        images = {f"image_{name}": (camera.side, camera.side, 3) for name, camera in self.cameras.items()}
        goals = images if self.takes_goal_images else {}
        return {
            "observation": {
                **{key: np.zeros((1, WINDOW, *shape), np.uint8) for key, shape in images.items()},
                "timestep_pad_mask": np.ones((1, WINDOW), bool),
            },
            "task": {
                **{key: np.zeros((1, *shape), np.uint8) for key, shape in goals.items()},
                "language_instruction": {"input_ids": tokens, "attention_mask": tokens},
            },
        }


def _spec(kind: str, **options: Any) -> dict[str, Any]:
    return {"name": kind, "kwargs": options}


ARCHITECTURES = {
    "octo-small-1.5": Architecture(dim=384, layers=12, heads=6, mlp_dim=1536),
    "octo-base-1.5": Architecture(dim=768, layers=12, heads=12, mlp_dim=3072),
    # For tests that need a policy but not its size.
    "octo-tiny": Architecture(
        dim=64,
        layers=2,
        heads=4,
        mlp_dim=128,
        text=T5Sizes(dim=16, num_layers=2, num_heads=2, head_dim=8, mlp_dim=32),
        stem={"features": (32, 32, 32, 32), "num_features": 64},
        head={"hidden_dim": 64},
    ),
    # To be trained from scratch on the tabletop suite. Convolutions cost most of that on a CPU: the first one does not
    # overlap, and the far camera, which is only for the rough direction, has patches twice as wide. The experts do one
    # thing in one state, which a regression learns in a fraction of the steps that denoising takes. Places are what it
    # has to see, and it learns to several times faster where a token's position is not small beside its content.
    "octo-tabletop": Architecture(
        dim=128,
        layers=4,
        heads=4,
        mlp_dim=256,
        text=T5Sizes(vocabulary=320, dim=64, num_layers=2, num_heads=4, head_dim=16, mlp_dim=128),
        cameras={"primary": CameraTokens(side=128, patch_size=32), "wrist": CameraTokens(side=96)},
        stem={
            "kernel_sizes": (8, 3),
            "strides": (8, 2),
            "features": (96, 192),
            "padding": (0, 1),
            "num_features": 128,
        },
        head_name="L1ActionHead",
        head={"use_map": False},
        takes_goal_images=False,
        max_horizon=WINDOW,
        repeat_task_tokens=False,
        position_deviation=0.5,
    ),
}

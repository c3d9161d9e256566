"""Recipe: all that decides what a run of training learns. The same recipe gives the same parameters."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from octo_service.config import OctoConfig
from vla_server_base.config import Count, config_from_environment

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Mode = Literal["full", "head_only", "head_mlp_only", "frozen_transformer"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, on what, and how; the defaults are those of the reference's finetune_config.py."""

    source: Annotated[str, tyro.conf.arg(name="from")] = "hf://rail-berkeley/octo-small-1.5"
    """A checkpoint's folder or hf://organization/name[@revision]; random://architecture trains from scratch."""

    data: tuple[Path, ...]
    """Folders of recorded episodes: LeRobot datasets, or array stores of `octo-service demonstrate`."""

    mode: Mode = "full"
    """What is trained: all but the text encoder; the action head; its last layers; all but the transformer."""

    learn: Literal["actions", "environment_state"] = "actions"
    """What is predicted: to begin with it may be where things are, where a simulation recorded it."""

    camera: tuple[str, ...] = ()
    """The dataset's cameras as name=source or name=source@size; by default those that the policy has by one name."""

    action_key: tuple[str, ...] = ()
    """Features of a LeRobot dataset that are the action, one behind another; `action` or `actions` by default."""

    state_key: tuple[str, ...] = ()
    """Features that are the robot's own numbers, likewise; `observation.state` or `state` by default."""

    proprio: bool = False
    """Show the policy its robot's own numbers; one that already sees them keeps them."""

    window: Count | None = None
    """Observations that the policy attends to; the checkpoint's by default."""

    horizon: Count | None = None
    """Actions of a chunk; the checkpoint's by default."""

    head: str | None = None
    """Another kind of action head, such as L1ActionHead; the checkpoint's by default."""

    statistics: Literal["data", "checkpoint"] = "data"
    """Whose mean and deviation normalize actions and proprio; the checkpoint's go on with what it was trained on."""

    raw_actions: tuple[int, ...] | None = None
    """Which numbers of an action are not normalized; by default the last of Octo's 7, the gripper."""

    keep_image_prob: Share = 0.5
    """How often the task is a goal image of the episode's own future instead of its instruction."""

    history_dropout: Share = 0.0
    """How often earlier observations are taken for padding, so that the policy does well without them, too."""

    word_dropout: Share = 0.0
    """How often a word is taken for an unknown one, where the text encoder is trained."""

    augment: bool = True
    """Crop images and change their colours at random, as Octo's own training does."""

    steps: Count = 50_000
    """Updates in all."""

    batch_size: Count = 256
    """Samples of an update."""

    learning_rate: Rate = 3e-4
    """The highest one, after the warm-up."""

    schedule: Literal["cosine", "constant", "rsqrt"] = "cosine"
    """The learning rate: it falls until the last step, or not at all, or with the square root of steps."""

    final_learning_rate: Rate = 0.0
    """The one of the last step, by the cosine."""

    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Steps in which the learning rate rises; 2000 by default, or a tenth of all steps if that is less."""

    weight_decay: Rate = 0.01
    """Of kernels."""

    clip_gradient: Annotated[float, Field(gt=0)] = 1.0
    """The largest norm of a gradient."""

    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Of a running mean of the parameters, such as 0.999; then the checkpoints are that mean."""

    seed: Annotated[int, Field(ge=0)] = 42
    """Of everything that is drawn."""

    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Of products of matrices on a GPU; there the lower ones are several times faster."""

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the episodes that is kept to measure the loss on."""

    tokenizer: Path | None = field(default_factory=lambda: config_from_environment(OctoConfig, "OCTO").tokenizer)
    """The text encoder's vocabulary; by default it is the checkpoint's own, or comes from the hub."""

    @property
    def is_from_scratch(self) -> bool:
        """Whether no parameters are given."""
        return self.source.startswith("random://")

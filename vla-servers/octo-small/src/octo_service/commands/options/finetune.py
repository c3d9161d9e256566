"""Flags of `octo-service finetune`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from octo_service.training.fit import Fit
from octo_service.training.intervals import Intervals
from octo_service.training.recipe import Recipe
from vla_server_base.commands.flags import SCENE_SETTINGS, flags_of
from vla_server_base.config import Count, ServerConfig


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Train a policy on recorded episodes: a checkpoint further, or an architecture from scratch."""

    recipe: Recipe

    out: Path
    """The run's folder; it is a checkpoint to serve, too."""

    resume: bool = False
    """Continue the run in `out` after it was interrupted."""

    intervals: Intervals = field(default_factory=Intervals)

    fit: Fit = field(default_factory=Fit)

    evaluate_tasks: tuple[str, ...] = ()
    """Tasks of the closed loop, by how their names begin; all by default."""

    evaluate_trials: Count = 10
    """Trials of each task."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "device", "cache_dir", *SCENE_SETTINGS)]

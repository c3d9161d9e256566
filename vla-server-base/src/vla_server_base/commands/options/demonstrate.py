"""Flags of `demonstrate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vla_server_base.config import Count
from vla_server_base.schemas.ranges import Seed


@dataclass(frozen=True, kw_only=True)
class Demonstrate:
    """Have experts show the tabletop suite's tasks, and record it; a second run adds what is missing."""

    out: Path
    """The folder to record to."""

    lossless: bool = True
    """Store images as PNG, exactly as they were rendered, instead of as video."""

    tasks: tuple[str, ...] = ()
    """Tasks by name, or by how their names begin (pick_up, push); all by default."""

    episodes_per_task: Count = 100
    """Trials of each task; those in which the expert fails are left out."""

    seed: Seed = 0
    """The first trial's; the others' follow it."""

    robot: str = "panda"
    """Whose tabletop."""

    sizes: tuple[str, ...] = ("primary=128", "wrist=64")
    """The policy's cameras and their sides in pixels."""

    random_views: Annotated[int, Field(ge=0)] = 0
    """Random views a step: single timesteps with resampled objects and task, recorded to OUT-random-views."""

    policy: str | None = None
    """A policy that drives at first: a checkpoint, or a server's address. The actions to learn are the expert's."""

    policy_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The chance that the policy does so in an episode."""

    policy_steps: Annotated[int, Field(ge=0)] | Literal["all"] = 25
    """For how many steps at most, drawn from 0 to this; `all` lets it drive to the end."""

    policy_horizon: Count = 1
    """Actions of each of its chunks that are executed before it is called again."""

    workers: Count = 2
    """Processes that simulate and draw."""

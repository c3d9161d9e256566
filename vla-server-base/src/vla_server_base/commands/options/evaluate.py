"""Flags of `evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, Literal

import tyro
from pydantic import Field

from vla_server_base.commands.flags import SCENE_SETTINGS, Config, flags_of
from vla_server_base.config import Count, ServerConfig
from vla_server_base.execution import Execution
from vla_server_base.schemas.ranges import EnsembleWeight, Seed
from vla_server_base.tabletop.splits import FIRST_SEED, Split


@dataclass(frozen=True, kw_only=True)
class Evaluate(Generic[Config]):
    """Run the tabletop suite against a checkpoint or a server; print success per task, as Markdown."""

    policy: Annotated[str, tyro.conf.Positional]
    """A server's address (http://...) or a checkpoint, as `serve --model` takes it."""

    tasks: tuple[str, ...] = ()
    """Tasks by name, or by how their names begin (pick_up, push); all by default."""

    trials: Count = 50
    """Trials of each task."""

    seed: Seed = FIRST_SEED
    """The first trial's; the others' follow it. Trials for training have seeds below the default."""

    split: Split = "train"
    """Whether tasks are said as in training, or in ways that were held out; scenes and starts are the same."""

    grounding: Annotated[int, Field(ge=0)] | None = None
    """Scenes in which each object is asked for in turn; by default as many as `trials`, if a task is to pick up and the
    policy reads instructions."""

    robot: str = "panda"
    """Whose tabletop."""

    through: Literal["predict", "execute"] = "predict"
    """Of a server: ask for each action and simulate here, or have whole episodes run there."""

    engine: Literal["in-process", "ray"] = "in-process"
    """Where trials are played: in this process, or by workers on a cluster of Ray (extra ray); the results are the
    same."""

    address: str | None = None
    """With --engine ray: HOST:PORT of a running cluster's head, or auto; without, a cluster of this machine is used."""

    workers: Count | None = None
    """With --engine ray: how many workers, 2 by default, each with its own policy and --scene-workers."""

    execution: Execution | None = None
    """How chunks are executed, as in a session; follows from the next two, or is the policy's own."""

    execution_horizon: Count | None = None
    """Actions of each chunk that are executed before the policy is asked again (rtc, blended: that continue it)."""

    ensemble_weight: EnsembleWeight | None = None
    """Average what overlapping chunks say, with weights exp(-w i), the oldest i = 0."""

    latency_ms: Annotated[float, Field(ge=0)] = 0.0
    """Simulated time that passes while the policy thinks; with rtc, aligned and blended the arm goes on meanwhile."""

    window: Count | None = None
    """How many observations the policy is shown; all that it takes by default, the rest is padding."""

    max_steps: Count = 75
    """Actions after which a trial has failed: 15 s at 5 Hz."""

    videos: Path | None = None
    """A folder for animations of failures."""

    max_videos: Annotated[int, Field(ge=0)] = 20
    """The most videos in that folder."""

    out: Path | None = None
    """A file for the results, as JSON lines; trials that it holds already are not run again."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "device", "cache_dir", *SCENE_SETTINGS)]
    config: Config

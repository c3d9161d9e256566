"""An episode that can be steered: the bodies of POST and PATCH /episodes, and what they answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pydantic
from pydantic import Field

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Image, PolicySpec
from vla_server_base.episodes.settings import EpisodeSettings, Pace
from vla_server_base.episodes.steering import Command
from vla_server_base.schemas.base import Body, Reply
from vla_server_base.schemas.change import changes_something, core_change
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.execute_reply import StartEvent
from vla_server_base.schemas.inputs import ExecuteInputs
from vla_server_base.schemas.state import PutBodies
from vla_server_base.schemas.success import Success

Status = Literal["running", "paused", "ended"]


class SteeredEpisodeRequest(ExecuteRequest):
    """An episode that goes on while it is watched and steered."""

    pace: Pace = "real_time"
    """Whether steps come at the simulation's own clock, or as soon as they are computed."""
    paused: bool = False
    """Whether it waits before its first step."""

    def to_core(
        self, spec: PolicySpec, config: ServerConfig, fit_image: Callable[[str, Image], Image]
    ) -> ExecuteInputs:
        """Check the request against the policy, and decode it; see `ExecuteRequest.to_core`."""
        inputs = super().to_core(spec, config, fit_image)
        return replace(inputs, pace=self.pace, is_paused=self.paused)

    def core_settings(self, seed: int, spec: PolicySpec, config: ServerConfig) -> EpisodeSettings:
        """Return how the episode runs; whenever its instruction changes, the policy's window must be up to date."""
        return replace(super().core_settings(seed, spec, config), with_images=True)


class EpisodePatch(Body):
    """What to change in a running episode; all of it takes effect together, before the next step."""

    status: Literal["running", "paused", "stopped"] | None = None
    """Go on, pause, or end the episode."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """Of a paused episode: execute that many actions, then pause again."""
    pace: Pace | None = None
    """Whether steps come at the simulation's own clock, or as soon as they are computed."""
    instruction: str | None = None
    """What to do from now on, instead of the task so far: the rest of the chunk is dropped, the policy is asked."""
    success: tuple[Success, ...] | None = Field(default=None, max_length=16, fail_fast=True)
    """What counts as success from now on."""
    bodies: PutBodies | None = None
    """Where bodies with a free joint are put, at rest; the policy's images are drawn again."""

    @pydantic.model_validator(mode="after")
    def _consistent(self):
        if self.steps is not None and self.status in ("running", "stopped"):
            raise ValueError(f"steps cannot be combined with status {self.status}: they are for a paused episode")
        return self

    def to_core(self, spec: PolicySpec) -> Command:
        """Return the command to the episode.

        Raises:
            InstructionError: the instruction is empty, or longer than the policy takes.
        """
        return Command(
            status=self.status,
            num_steps=self.steps,
            pace=self.pace,
            change=core_change(self, 0, spec) if changes_something(self) else None,
        )


class EpisodeReply(Reply):
    """An episode has begun."""

    episode_id: str
    status: Status
    pace: Pace
    start: StartEvent
    """The scene before the first action, as the first event has it."""


class EpisodeSummaryReply(Reply):
    """Where an episode is, in a few numbers."""

    episode_id: str
    status: Status
    reason: Literal["success", "max_steps", "rejected", "stopped", "error"] | None
    """Why it ended; null before."""
    pace: Pace
    instruction: str | None
    seed: int
    step: int
    """How many actions have been executed."""
    time: float
    """Simulated time [s]."""
    success: bool | None
    """Whether all predicates hold; null where there are none."""
    scene_id: str


class EpisodeStatusReply(EpisodeSummaryReply):
    """Where an episode is, and what was changed in it."""

    changes: list[dict[str, Any]]
    """What was changed so far, as `changes` of a request takes it."""


class EpisodesReply(Reply):
    """The episodes that run or are still kept, the newest first."""

    episodes: list[EpisodeSummaryReply]
    max_episodes: int

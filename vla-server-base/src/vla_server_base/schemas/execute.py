"""The body of POST /execute, and what the server makes of it: an episode."""

import secrets
from collections.abc import Callable
from dataclasses import replace

from pydantic import Field

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Image, PolicySpec, Task
from vla_server_base.episodes.chunk_plan import check_plan
from vla_server_base.episodes.loop import EpisodeSettings
from vla_server_base.episodes.policies import check_drives_arm
from vla_server_base.episodes.recorder import check_recordings
from vla_server_base.episodes.recording import RecordingKind
from vla_server_base.episodes.settings import MAX_CHANGES
from vla_server_base.errors import RequestError
from vla_server_base.execution import Execution
from vla_server_base.request_inputs import decode_images
from vla_server_base.schemas.change import ChangeField
from vla_server_base.schemas.inputs import ExecuteInputs, FrameFormat
from vla_server_base.schemas.ranges import EnsembleWeight, ExecutionHorizon, Seed
from vla_server_base.schemas.scene import SceneRequest
from vla_server_base.schemas.session import Model
from vla_server_base.schemas.success import Success, core_predicate

MAX_KEPT_IMAGES = 300
"""Of one animation: 45 MB until it is encoded."""


class ExecuteRequest(SceneRequest):
    """A whole episode: a scene with an arm, an instruction, and how the loop is closed."""

    max_steps: int = Field(default=75, ge=1, le=1000)
    """Actions after which the episode ends, if it has not before."""
    execution: Execution | None = None
    """How chunks are executed, as in a session; null follows from the next two, or is the policy's own."""
    execution_horizon: ExecutionHorizon | None = None
    """With chunk: actions that are executed before the policy is asked again. With rtc and blended: up to where the
    last chunk counts."""
    ensemble_weight: EnsembleWeight | None = None
    """With ensemble: overlapping chunks are averaged with weights exp(-w * age), the oldest first."""
    seed: Seed | None = None
    """The episode is a function of this and of the request; drawn and returned if left out."""
    latency_ms: float = Field(default=0.0, ge=0.0, le=2000.0)
    """Simulated time that passes while the policy thinks. The arm keeps its last target, or with rtc, aligned and
    blended executes its last chunk."""
    success: tuple[Success, ...] = Field(default=(), max_length=16, fail_fast=True)
    """The episode ends as soon as all of these hold at once."""
    frames: FrameFormat = "none"
    """Whether each event of a stream carries what the policy's cameras see: `png` exactly, `jpeg` nearly."""
    record: tuple[RecordingKind, ...] = Field(default=(), max_length=16, fail_fast=True)
    """What to return of the whole episode: an animation, a scene to replay in MuJoCo's viewer, a LeRobot dataset."""
    changes: tuple[ChangeField, ...] = Field(default=(), max_length=MAX_CHANGES, fail_fast=True)
    """What changes before some of its steps, such as what somebody changed in another episode by PATCH."""
    model: Model = None

    @property
    def _records_images(self) -> bool:
        return not {"webp", "lerobot"}.isdisjoint(self.record)

    def to_core(
        self, spec: PolicySpec, config: ServerConfig, fit_image: Callable[[str, Image], Image]
    ) -> ExecuteInputs:
        """Check the request against the policy, and decode it; `fit_image` makes images as small as the policy's own.

        Raises:
            RequestError, ImageError, InstructionError, UnknownName: the policy cannot do it; with what it takes.
        """
        instruction, goals, instruction_note = self.core_instruction(spec, config)
        dataset, dataset_note = self.core_dataset(spec)
        check_drives_arm(spec.actions[dataset].names)
        seed = secrets.randbelow(2**32) if self.seed is None else self.seed
        settings = replace(
            self.core_settings(seed, spec, config),
            max_worker_s=config.episode_worker_s,
            changes=tuple(change.to_core(spec) for change in self.changes),
        )
        check_plan(spec, settings)
        check_recordings(self.record, settings.control.rate_hz)
        if self._records_images and self.max_steps > MAX_KEPT_IMAGES:
            raise RequestError(
                f"record: expected at most {MAX_KEPT_IMAGES} steps, got max_steps {self.max_steps}",
                hint="send fewer max_steps, or ask for a stream with frames: jpeg",
            )
        return ExecuteInputs(
            settings=settings,
            task=Task(instruction=instruction, goal_images=decode_images(goals, config.max_image_pixels, fit_image)),
            dataset=dataset,
            notes=tuple(note for note in (instruction_note, dataset_note) if note is not None),
            record=self.record,
            frames=self.frames,
        )

    def core_settings(self, seed: int, spec: PolicySpec, config: ServerConfig) -> EpisodeSettings:
        """Return how the episode runs.

        Raises:
            RequestError, UnknownName: see `SceneRequest.core_view`.
        """
        scene = self.core_scene(spec, config)
        return EpisodeSettings(
            max_steps=self.max_steps,
            execution=self.execution,
            execution_horizon=self.execution_horizon,
            ensemble_weight=self.ensemble_weight,
            seed=seed,
            latency_s=self.latency_ms / 1e3,
            success=tuple(core_predicate(success) for success in self.success),
            guard=scene.guard,
            preview=scene.wants_preview,
            poses=scene.wants_poses,
            bounds=scene.bounds,
            robot=scene.robot,
            control=scene.control,
            state=scene.state,
            view=scene.view,
            with_images=self.frames != "none" or self._records_images,
        )

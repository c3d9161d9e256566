"""The body of POST /predict, and what the server makes of it."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pydantic
from pydantic import Field

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Image, Observation, PolicySpec, Task
from vla_server_base.episodes.policies import ARM_ACTION, check_drives_arm
from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.request_inputs import PROPRIO, check_observation, decode_images, images_by_camera
from vla_server_base.schemas.inputs import PredictInputs
from vla_server_base.schemas.observation import (
    IMAGE_FIELDS,
    CameraImage,
    CameraImages,
    PastObservation,
    WristImage,
    check_proprio,
    has_images,
)
from vla_server_base.schemas.ranges import Numbers, Seed, Step
from vla_server_base.schemas.scene import NO_FILES, SceneRequest
from vla_server_base.schemas.session import (
    ControlHz,
    DeadlineMs,
    ExecutionMode,
    Horizon,
    InferenceDelay,
    Model,
    ObsTime,
    Reset,
    ReturnToken,
    Sequence,
    SessionId,
    SessionToken,
    StepFields,
    Weight,
    check_session,
    session_values,
)

JOINT_POSITION = "joint_position"
"""The action format that the server forms itself, by inverse kinematics on the scene's own arm."""


class PredictRequest(SceneRequest):
    """What a robot sees and what it is to do: a scene or images, and an instruction."""

    image_fields: ClassVar[tuple[str, ...]] = IMAGE_FIELDS

    image: CameraImage = None
    image_wrist: WristImage = None
    images: CameraImages = Field(default_factory=dict)
    history: tuple[PastObservation, ...] = Field(default=(), max_length=1000, fail_fast=True)
    """What was seen before, oldest first, at most the policy's window less one; goes with images."""
    proprio: Numbers | None = None
    """The robot's own state in the units of the policy's training data, for policies that take it."""
    action_format: str | None = None
    """Form of `action` in the reply, one of those in GET /info; without it the policy's first."""
    seed: Seed | None = None
    """Noise is a function of this and of `step`; drawn and returned if left out."""
    step: Step = 0
    """Which step of an episode this is: each draws other noise from the same seed."""
    num_samples: int = Field(default=1, ge=1, lt=2**31)
    """How many chunks to draw; more than one adds `samples` to the reply."""
    return_image: bool = False
    """Whether the reply has `images`: what the policy's cameras saw, before it was resized."""
    session_id: SessionId = None
    session_token: SessionToken = None
    return_token: ReturnToken = False
    reset: Reset = False
    sequence: Sequence = None
    obs_time: ObsTime = None
    deadline_ms: DeadlineMs = None
    execution: ExecutionMode = None
    execution_horizon: Horizon = None
    ensemble_weight: Weight = None
    inference_delay: InferenceDelay = None
    control_hz: ControlHz = None
    model: Model = None

    @pydantic.model_validator(mode="after")
    def _consistent(self, info: Any):
        self._check_session()
        scene_only = SceneRequest.model_fields.keys() - SceneRequest.task_fields
        has_scene = self.scene_id is not None or self.brings_scene(info.context or NO_FILES)
        foreign, owner = ({"history"}, "images") if has_scene else (scene_only, "a scene")
        given = {name for name in foreign & self.model_fields_set if getattr(self, name) is not None}
        if given:
            raise ValueError(f"{', '.join(sorted(given))} can only be given together with {owner}")
        return self

    def _check_session(self) -> None:
        """Refuse what only a session can do, and in a session what it does itself."""
        if self.is_of_session:
            check_session(self)
            if self.model is not None and self.session_token is not None:
                raise ValueError("model cannot be given together with session_token, whose session has one")
            given = sorted({"history", "step", "num_samples"} & self.model_fields_set)
            if given:
                raise ValueError(f"{', '.join(given)} cannot be given in a session, which keeps them itself")
            return
        names = StepFields.model_fields.keys() - {"session_id", "session_token", "deadline_ms"}
        given = sorted(name for name in names & self.model_fields_set if getattr(self, name) not in (None, False))
        if given:
            raise ValueError(f"{', '.join(given)} can only be given together with session_id or session_token")

    @property
    def is_of_session(self) -> bool:
        """Whether the request names a session."""
        return self.session_id is not None or self.session_token is not None

    @property
    def wants_motion(self) -> bool:
        """Whether to say what the chunk is predicted to do."""
        return self.preview or self.poses or self.guard != "off"

    @property
    def has_images(self) -> bool:
        """Whether there are images to decode, which takes longer than the event loop may wait."""
        given = (self.image, self.image_wrist, self.images, self.goal_image, self.goal_image_wrist, self.goal_images)
        return any(given)

    def to_core(
        self, spec: PolicySpec, config: ServerConfig, fit_image: Callable[[str, Image], Image]
    ) -> PredictInputs:
        """Check the request against the policy, and decode it; `fit_image` makes images as small as the policy's own.

        Raises:
            RequestError, ImageError, InstructionError, UnknownName: the policy cannot answer it; with what it takes.
        """
        instruction, goals, instruction_note = self.core_instruction(spec, config)
        dataset, dataset_note = self.core_dataset(spec)
        self._check(spec, config, dataset)
        max_pixels = config.max_image_pixels
        past = [(each, f"history.{number}.") for number, each in enumerate(self.history)]
        observed = [(each, images_by_camera(each, spec, where)) for each, where in (*past, (self, ""))]
        wants_joint_positions = self.action_format == JOINT_POSITION
        # Joint positions are formed from actions in the policy's own format.
        action_format = None if wants_joint_positions else self.action_format
        scene = None if any(images for _, images in observed) else self.core_scene(spec, config)
        observations = tuple(
            Observation(
                images=decode_images(images, max_pixels, fit_image),
                proprio=None if each.proprio is None else np.array(each.proprio, np.float64),
            )
            for each, images in observed
        )
        if scene is None:
            for observation, (_, where) in zip(observations, (*past, (self, "")), strict=True):
                _check_complete(observation, spec, where)
        return PredictInputs(
            observations=observations,
            task=Task(instruction=instruction, goal_images=decode_images(goals, max_pixels, fit_image)),
            dataset=dataset,
            notes=tuple(note for note in (instruction_note, dataset_note) if note is not None),
            seed=self.seed,
            step=self.step,
            num_samples=self.num_samples,
            action_format=action_format,
            wants_joint_positions=wants_joint_positions,
            wants_images=self.return_image,
            deadline_ms=self.deadline_ms,
            session=session_values(self, dataset=dataset, action_format=action_format) if self.is_of_session else None,
            scene=scene,
            needs_preview=scene is not None and (wants_joint_positions or self.wants_motion),
        )

    def _check(self, spec: PolicySpec, config: ServerConfig, dataset: str | None) -> None:
        if (num_past := len(self.history)) >= spec.window:
            raise RequestError(
                f"history: expected at most {spec.window - 1} past observations, got {num_past}",
                hint="send fewer, or name a session, which keeps them",
            )
        for number, past in enumerate(self.history):
            if past.proprio is not None:
                check_proprio(past.proprio, spec, f"history.{number}.proprio")
        if self.proprio is not None:
            check_proprio(self.proprio, spec)
        formats = action_formats(spec, dataset)
        if self.action_format is not None and self.action_format not in formats:
            raise UnknownName("action_format", self.action_format, formats)
        if self.action_format == JOINT_POSITION and has_images(self):
            raise RequestError(
                "action_format: joint_position is for a scene, whose arm it moves, not for images",
                hint=f"choose one of: {', '.join(spec.actions[dataset].formats)}",
            )
        if self.wants_motion:
            check_drives_arm(spec.actions[dataset].names)
        if self.num_samples > config.max_samples:
            raise RequestError(
                f"num_samples: {self.num_samples} is over this server's limit of {config.max_samples}",
                hint="ask for fewer; VLA_MAX_SAMPLES raises the limit",
            )


def _check_complete(observation: Observation, spec: PolicySpec, where: str) -> None:
    """Refuse an observation that lacks what the policy requires; `where` is the prefix of its fields.

    Raises:
        ImageError, RequestError: naming the fields.
    """

    def field_of(name: str) -> str:
        return where + (name if name == PROPRIO else f"images.{name}")

    given = [*map(field_of, observation.images), *([where + PROPRIO] if observation.proprio is not None else [])]
    check_observation(
        observation,
        spec,
        field_of=field_of,
        has=", ".join(given),
        hint_for=lambda name: f"send {field_of(name)}; GET /info says what the policy requires",
    )


def action_formats(spec: PolicySpec, dataset: str | None = None) -> tuple[str, ...]:
    """Return the formats that a request may ask for: the policy's own, and joint positions where it drives an arm."""
    actions = spec.actions[dataset]
    return (*actions.formats, *([JOINT_POSITION] if actions.names == ARM_ACTION else []))

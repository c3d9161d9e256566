"""The body of POST /predict."""

from typing import Any, ClassVar

import pydantic
from pydantic import Field

from vla_server_base.contract import Observation, Task
from vla_server_base.schemas.arm import ArmFields
from vla_server_base.schemas.images import PictureFields
from vla_server_base.schemas.ranges import Numbers, Seed, Step
from vla_server_base.schemas.scene import NOTHING_BESIDE
from vla_server_base.schemas.session import SessionFields, step_from_fields
from vla_server_base.schemas.task import TaskFields
from vla_server_base.sessions.requests import StepRequest

JOINT_POSITION = "joint_position"
"""The action format that the server forms itself, by inverse kinematics on the scene's own arm."""


class PastObservation(PictureFields):
    """What the robot saw a step earlier, or before that, by at least one of its cameras."""

    proprio: Numbers | None = None
    """The robot's own state then."""

    @pydantic.model_validator(mode="after")
    def _by_some_camera(self):
        if not self.shows_pictures:
            raise ValueError(f"none of {', '.join(PictureFields.model_fields)} is given")
        return self


class PredictRequest(ArmFields, PictureFields, SessionFields):
    """What a robot sees and what it is to do: a scene or pictures, and an instruction."""

    pictures: ClassVar[tuple[str, ...]] = tuple(PictureFields.model_fields)

    history: tuple[PastObservation, ...] = Field(default=(), max_length=1000, fail_fast=True)
    """What was seen before, oldest first, at most the policy's window less one; goes with pictures."""
    proprio: Numbers | None = None
    """The robot's own state in the units of the policy's training data, for policies that take it."""
    action_format: str | None = None
    """Form of `action` in the reply; without it the policy's first, `standard` as a rule."""
    seed: Seed | None = None
    """Noise is a function of this and of `step`; drawn and returned if left out."""
    step: Step = 0
    """Which step of an episode this is: each draws other noise from the same seed."""
    num_samples: int = Field(default=1, ge=1, lt=2**31)
    """How many chunks to draw; more than one adds `samples` to the reply."""
    return_image: bool = False
    """Whether the reply has `images`: what the policy's cameras saw, before it was resized."""

    @pydantic.model_validator(mode="after")
    def _nothing_foreign(self, info: Any):
        with_scene = ArmFields.model_fields.keys() - TaskFields.model_fields
        is_of_scene = self.scene_id is not None or self.brings_scene(info.context or NOTHING_BESIDE)
        foreign, owner = ({"history"}, "pictures") if is_of_scene else (with_scene, "a scene")
        given = {name for name in foreign & self.model_fields_set if getattr(self, name) is not None}
        if given:
            raise ValueError(f"{', '.join(sorted(given))} can only be given together with {owner}")
        alone = {"history", "step", "num_samples"} & self.model_fields_set
        if self.is_step and alone:
            raise ValueError(f"{', '.join(sorted(alone))} cannot be given in a session, which keeps them itself")
        return self


def step_from_body(body: PredictRequest, observation: Observation, task: Task, dataset: str | None) -> StepRequest:
    """Return the step that a request asks for, with actions in the units of a dataset."""
    # Joint positions are formed of each answer, by the scene's own arm.
    format_ = None if body.action_format == JOINT_POSITION else body.action_format
    return step_from_fields(body, observation, task, seed=body.seed, dataset=dataset, action_format=format_)

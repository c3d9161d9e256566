"""The body of POST /predict."""

from typing import Any, ClassVar

import pydantic
from pydantic import Field

from vla_server_base.contract import Observation, Task
from vla_server_base.turn import TurnRequest
from vla_server_base.wire.arm import ArmFields
from vla_server_base.wire.body import Body
from vla_server_base.wire.scene import NOTHING_BESIDE
from vla_server_base.wire.session import SessionFields, turn_from_fields
from vla_server_base.wire.task import TaskFields

JOINT_POSITION = "joint_position"
"""The action format that the server forms itself, by inverse kinematics on the scene's own arm."""


class PastObservation(Body):
    """What the robot saw a step earlier, or before that, by at least one of its cameras."""

    image: str | None = None
    """What the primary camera saw."""
    image_wrist: str | None = None
    """What the wrist camera saw."""
    proprio: list[float] | None = None
    """The robot's own state then."""

    @pydantic.model_validator(mode="after")
    def _by_some_camera(self):
        if self.image is None and self.image_wrist is None:
            raise ValueError("neither image nor image_wrist is given")
        return self


class PredictRequest(ArmFields, SessionFields):
    """What a robot sees and what it is to do: a scene or `image`, and an instruction."""

    sources: ClassVar[tuple[str, ...]] = (*ArmFields.sources, "image")
    stand_ins: ClassVar[tuple[str, ...]] = ("image_wrist",)

    image: str | None = None
    """What the primary camera saw, instead of a scene: PNG, JPEG or WebP as base64, or as a data: URL."""
    image_wrist: str | None = None
    """What the wrist camera saw; goes with `image`, or stands alone where the primary camera missed this frame."""
    history: tuple[PastObservation, ...] = ()
    """What was seen before, oldest first, at most the policy's window less one; goes with `image`."""
    proprio: list[float] | None = None
    """The robot's own state in the units of the policy's training data, for policies that take it."""
    action_format: str | None = None
    """Form of `action` in the reply; without it the policy's first, `standard` as a rule."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Noise is a function of this and of `step`; drawn and returned if left out."""
    step: int = Field(default=0, ge=0, lt=2**31)
    """Which step of an episode this is: each draws other noise from the same seed."""
    num_samples: int = Field(default=1, ge=1)
    """How many chunks to draw; more than one adds `samples` to the reply."""
    return_image: bool = False
    """Whether the reply has `images`: what the policy's cameras saw, before it was resized."""

    @pydantic.model_validator(mode="after")
    def _nothing_foreign(self, info: Any):
        with_image, with_scene = {"image_wrist", "history"}, ArmFields.model_fields.keys() - TaskFields.model_fields
        is_of_scene = self.scene_id is not None or self.brings_scene(info.context or NOTHING_BESIDE)
        foreign, owner = (with_image, "image") if is_of_scene else (with_scene, "a scene")
        given = {name for name in foreign & self.model_fields_set if getattr(self, name) is not None}
        if given:
            raise ValueError(f"{', '.join(sorted(given))} can only be given together with {owner}")
        alone = {"history", "step", "num_samples"} & self.model_fields_set
        if self.is_turn and alone:
            raise ValueError(f"{', '.join(sorted(alone))} cannot be given in a session, which keeps them itself")
        return self


def turn_from_body(body: PredictRequest, observation: Observation, task: Task) -> TurnRequest:
    """Return the turn that a request is."""
    # Joint positions are formed of each answer, by the scene's own arm.
    format_ = None if body.action_format == JOINT_POSITION else body.action_format
    return turn_from_fields(body, observation, task, seed=body.seed, dataset=body.dataset, action_format=format_)

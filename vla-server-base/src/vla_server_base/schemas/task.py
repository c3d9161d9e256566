"""What a robot is to do, in a request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import Field

from vla_server_base.contract import Image, PolicySpec, Task
from vla_server_base.dataset_names import known_dataset
from vla_server_base.errors import ImageError, InstructionError
from vla_server_base.instructions import instruction_or_default
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.images import ByCamera, EncodedPicture, decode_pictures, pictures_by_camera


class TaskFields(Body):
    """An instruction, goal pictures, or both, and the data set whose units the answer is in."""

    instruction: str = ""
    """What the robot is to do; may be left out where a goal image says it, or where the server has one of its own."""
    goal_image: str | None = None
    """What the policy's first camera shall see in the end: PNG, JPEG or WebP as base64, or as a data: URL."""
    goal_image_wrist: str | None = None
    """What the camera `wrist` shall see in the end."""
    goal_images: ByCamera = Field(default_factory=dict)
    """What cameras shall see in the end, by the policy's names for them."""
    dataset: str | None = None
    """Whose statistics un-normalize the action; without it the policy's default."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A task as it was sent, checked; `dataset` is as the policy calls it, `notes` are for the client."""

    instruction: str | None
    goals: Mapping[str, EncodedPicture]
    dataset: str | None
    notes: tuple[str, ...]


def assignment_from_body(body: TaskFields, spec: PolicySpec, default_instruction: str) -> Assignment:
    """Return what is asked for, if this policy can take it up.

    Raises:
        InstructionError, ImageError, UnknownName: naming what is taken instead.
    """
    goals = pictures_by_camera(body, spec, kind="goal_image")
    if goals and not spec.takes_goal_images:
        raise ImageError("this policy takes no goal images", hint="say it in the instruction instead")
    # A goal picture says what is to be done.
    instruction, note = instruction_or_default(body.instruction, "" if goals else default_instruction, spec)
    if instruction is None and not goals:
        hint = "say what the robot is to do: an instruction" + (", or a goal_image" if spec.takes_goal_images else "")
        raise InstructionError("the instruction is empty", hint=hint)
    dataset, dataset_note = (None, None) if body.dataset is None else known_dataset(body.dataset, spec)
    notes = tuple(each for each in (note, dataset_note) if each is not None)
    return Assignment(instruction=instruction, goals=goals, dataset=dataset, notes=notes)


def task_from_assignment(assignment: Assignment, max_pixels: int, fit: Callable[[str, Image], Image]) -> Task:
    """Return the task, its goal images decoded.

    Raises:
        ImageError: one of them cannot be.
    """
    goals = decode_pictures(assignment.goals, max_pixels, fit)
    return Task(instruction=assignment.instruction, goal_images=goals)

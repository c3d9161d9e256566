"""What somebody changes in an episode between two of its steps, in requests and in replies."""

from typing import Any

import pydantic
from pydantic import Field

from vla_server_base.contract import PolicySpec
from vla_server_base.episodes.settings import Change
from vla_server_base.errors import InstructionError
from vla_server_base.schemas.base import Body
from vla_server_base.schemas.scene import instruction_or_default
from vla_server_base.schemas.state import PutBodies, body_poses_to_body, core_body_poses
from vla_server_base.schemas.success import Success, core_predicate, success_to_body


class ChangeField(Body):
    """A change that takes effect before a step."""

    step: int = Field(ge=0, lt=1000)
    """Before which step it takes effect."""
    instruction: str | None = None
    """What to do from now on, instead of the task so far: the rest of the chunk is dropped, the policy is asked."""
    success: tuple[Success, ...] | None = Field(default=None, max_length=16, fail_fast=True)
    """What counts as success from now on."""
    bodies: PutBodies | None = None
    """Where bodies with a free joint are put, at rest; the policy's images are drawn again."""

    @pydantic.model_validator(mode="after")
    def _changes_something(self):
        if not changes_something(self):
            raise ValueError(f"expected at least one of {', '.join(_CHANGES)}")
        return self

    def to_core(self, spec: PolicySpec) -> Change:
        """Return the change as an episode makes it.

        Raises:
            InstructionError: the instruction is empty, or longer than the policy takes.
        """
        return core_change(self, self.step, spec)


_CHANGES = ("instruction", "success", "bodies")


def changes_something(fields: Any) -> bool:
    """Return whether the fields of a ChangeField or an EpisodePatch change anything."""
    return any(getattr(fields, name) not in (None, {}) for name in _CHANGES)


def core_change(fields: Any, step: int, spec: PolicySpec) -> Change:
    """Return what the fields of a ChangeField or an EpisodePatch change before a step.

    Raises:
        InstructionError: the instruction is empty, or longer than the policy takes.
    """
    if fields.instruction is not None:
        instruction, _ = instruction_or_default(fields.instruction, "", spec)
        if instruction is None:
            raise InstructionError("the instruction is empty", hint="send an instruction, or leave it out")
    return Change(
        step=step,
        instruction=fields.instruction,
        success=None if fields.success is None else tuple(core_predicate(success) for success in fields.success),
        bodies=core_body_poses(fields.bodies or {}),
    )


def change_to_body(change: Change) -> dict[str, Any]:
    """Return a change as `changes` of a request takes it."""
    body: dict[str, Any] = {"step": change.step}
    if change.instruction is not None:
        body["instruction"] = change.instruction
    if change.success is not None:
        body["success"] = success_to_body(change.success)
    if change.bodies:
        body["bodies"] = body_poses_to_body(change.bodies)
    return body

"""What every observation and every task must have for a policy: what is missing is refused, never filled in."""

from collections.abc import Callable

from vla_server_base.contract import Observation, PolicySpec, Task
from vla_server_base.errors import ImageError, InstructionError, RequestError

PROPRIO = "proprio"


def check_observation(
    observation: Observation,
    spec: PolicySpec,
    *,
    field_of: Callable[[str], str] | None = None,
    has: str = "",
    hint_for: Callable[[str], str] = "send {}".format,
) -> None:
    """Refuse an observation without an image of a required camera, or without proprio where the policy requires it.

    `field_of` returns what the request calls the image of a camera, or `proprio`, and `hint_for` how to send it; `has`
    lists what the request has instead.

    Raises:
        ImageError, RequestError: naming all that is missing.
    """
    cameras = [camera.name for camera in spec.cameras if camera.required and camera.name not in observation.images]
    lacks_proprio = spec.requires_proprio and observation.proprio is None
    missing = [*cameras, *([PROPRIO] if lacks_proprio else [])]
    if missing:
        fields = [(field_of or _field)(name) for name in missing]
        if lacks_proprio:
            fields[-1] += f" of {described_proprio(spec)}"
        verb, pronoun = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise (ImageError if cameras else RequestError)(
            f"{_listed(fields)} {verb} missing: this policy requires {pronoun} in every observation"
            + (f"; the request has: {has}" if has else ""),
            hint=hint_for(missing[0]),
        )
    if spec.proprio_dim and observation.proprio is not None:
        check_num_proprio(len(observation.proprio), spec)


def check_task(
    task: Task, spec: PolicySpec, *, message: str = "there is no instruction", hint: str = "send an instruction"
) -> None:
    """Refuse a task without words and goal images, unless the policy reads no instruction.

    Raises:
        InstructionError: with `message` and `hint`.
    """
    if not (task.instruction or "").strip() and not task.goal_images and spec.takes_instruction:
        raise InstructionError(message, hint=hint)


def check_num_proprio(num_numbers: int, spec: PolicySpec, name: str = PROPRIO) -> None:
    """Refuse proprio of another length than the policy's; `name` is the field's.

    Raises:
        RequestError: with the expected length, and what the numbers are.
    """
    if num_numbers != spec.proprio_dim:
        hint = "send the state that the policy was trained with" if spec.proprio_dim else "leave it out"
        raise RequestError(f"{name}: expected {described_proprio(spec)}, got {num_numbers}", hint=hint)


def described_proprio(spec: PolicySpec) -> str:
    """Return the policy's proprio in words: `3 numbers (x, y, gripper)`, by name where the checkpoint says."""
    names = f" ({', '.join(spec.proprio_names)})" if spec.proprio_names else ""
    return f"{spec.proprio_dim or 0} numbers{names}"


def _field(name: str) -> str:
    return name if name == PROPRIO else f"the image of the camera '{name}'"


def _listed(fields: list[str]) -> str:
    *others, last = fields
    return f"{', '.join(others)} and {last}" if others else last

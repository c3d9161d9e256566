"""What a policy cannot answer, refused before anything is rendered for it."""

from collections.abc import Mapping, Sequence

from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.errors import ImageError, InstructionError, RequestError, UnknownName
from vla_server_base.policies import ARM_ACTION, check_drives_arm
from vla_server_base.wire.predict import JOINT_POSITION, PastObservation, PredictRequest
from vla_server_base.wire.scene import SceneFields

MAX_PROPRIO = 1e9
"""More than any encoder counts, and little enough that float32 holds what a policy makes of it."""


def action_formats(spec: PolicySpec, dataset: str | None = None) -> tuple[str, ...]:
    """Return the formats that a request may ask for: the policy's own, and joint positions where it drives an arm."""
    actions = spec.actions_of(dataset)
    return (*actions.formats, *([JOINT_POSITION] if actions.names == ARM_ACTION else []))


def check_predict(body: PredictRequest, spec: PolicySpec, config: ServerConfig) -> None:
    """Refuse what this policy cannot answer.

    Raises:
        InstructionError, ImageError, UnknownName, RequestError: naming what is taken instead.
    """
    check_task(body, spec)
    if len(body.history) >= spec.window:
        raise RequestError(
            f"history: {len(body.history)} past observations are given, this policy's window takes {spec.window - 1}"
        )
    _check_seen(body, spec)
    for number, past in enumerate(body.history):
        _check_seen(past, spec, f"history.{number}.")
    formats = action_formats(spec, body.dataset)
    if body.action_format is not None and body.action_format not in formats:
        raise UnknownName("action_format", body.action_format, formats)
    if body.action_format == JOINT_POSITION and (body.image is not None or body.image_wrist is not None):
        raise RequestError("action_format: joint_position is for a scene, whose arm it moves, not for pictures")
    if body.preview or body.guard != "off":
        check_drives_arm(spec.actions_of(body.dataset).names)
    if body.num_samples > config.max_samples:
        raise RequestError(f"num_samples: {body.num_samples} is over this server's limit of {config.max_samples}")


def check_task(body: SceneFields, spec: PolicySpec) -> None:
    """Refuse a task that this policy cannot take up, whatever is to come of it.

    Raises:
        InstructionError, ImageError, UnknownName: naming what is taken instead.
    """
    goals = body.goal_image is not None or body.goal_image_wrist is not None
    if not body.instruction.strip() and not goals:
        hint = "say what the robot is to do: an instruction" + (", or a goal_image" if spec.takes_goal_images else "")
        raise InstructionError("the instruction is empty", hint=hint)
    check_instruction(body.instruction, spec)
    if goals and not spec.takes_goal_images:
        raise ImageError("this policy takes no goal images", hint="say it in the instruction instead")
    pictures = {"goal_image": ("primary", body.goal_image), "goal_image_wrist": ("wrist", body.goal_image_wrist)}
    _check_pictures(pictures, spec)
    if body.wrist_camera and "wrist" not in spec.camera_names:
        raise UnknownName("camera", "wrist", spec.camera_names)
    if body.dataset is not None and body.dataset not in spec.datasets:
        raise UnknownName("dataset", body.dataset, spec.datasets)


def check_instruction(instruction: str, spec: PolicySpec) -> None:
    """Refuse an instruction that is longer than this policy takes.

    Raises:
        InstructionError: saying how long it may be.
    """
    if len(instruction) > spec.max_instruction_chars:
        given, limit = len(instruction), spec.max_instruction_chars
        raise InstructionError(f"the instruction has {given} characters, at most {limit} are taken")


def check_proprio(numbers: Sequence[float], spec: PolicySpec, name: str = "proprio") -> None:
    """Refuse proprio of another length than this policy's, or with numbers that no robot has; `name` is the field's.

    Raises:
        RequestError: saying how long it is, or which number it is.
    """
    if len(numbers) != spec.proprio_dim:
        takes = f"takes {spec.proprio_dim}" if spec.proprio_dim else "takes none"
        raise RequestError(f"{name}: {len(numbers)} numbers are given, this policy {takes}")
    for index, number in enumerate(numbers):
        if not abs(number) <= MAX_PROPRIO:
            raise RequestError(f"{name}.{index}: {number:g} is given, at most {MAX_PROPRIO:g} in size is taken")


def _check_seen(seen: PredictRequest | PastObservation, spec: PolicySpec, where: str = "") -> None:
    pictures = {f"{where}image": ("primary", seen.image), f"{where}image_wrist": ("wrist", seen.image_wrist)}
    _check_pictures(pictures, spec)
    if seen.proprio is not None:
        check_proprio(seen.proprio, spec, f"{where}proprio")


def _check_pictures(pictures: Mapping[str, tuple[str, str | None]], spec: PolicySpec) -> None:
    names = spec.camera_names
    for picture, (camera, given) in pictures.items():
        if given is not None and camera not in names:
            raise ImageError(f"{picture}: this policy has no {camera} camera", hint=f"it has: {', '.join(names)}")

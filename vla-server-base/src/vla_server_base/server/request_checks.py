"""What a policy cannot answer, refused before anything is rendered for it."""

from collections.abc import Sequence

from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.episodes.policies import ARM_ACTION, check_drives_arm
from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.schemas.predict import JOINT_POSITION, PredictRequest

MAX_PROPRIO = 1e9
"""More than any encoder counts, and little enough that float32 holds what a policy makes of it."""


def action_formats(spec: PolicySpec, dataset: str | None = None) -> tuple[str, ...]:
    """Return the formats that a request may ask for: the policy's own, and joint positions where it drives an arm."""
    actions = spec.actions_of(dataset)
    return (*actions.formats, *([JOINT_POSITION] if actions.names == ARM_ACTION else []))


def check_predict(body: PredictRequest, spec: PolicySpec, config: ServerConfig, dataset: str | None) -> None:
    """Refuse what this policy cannot answer in the units of a dataset.

    Raises:
        UnknownName, RequestError: naming what is taken instead.
    """
    if len(body.history) >= spec.window:
        raise RequestError(
            f"history: {len(body.history)} past observations are given, this policy's window takes {spec.window - 1}"
        )
    seen = {"": body, **{f"history.{number}.": past for number, past in enumerate(body.history)}}
    for where, observation in seen.items():
        if observation.proprio is not None:
            check_proprio(observation.proprio, spec, f"{where}proprio")
    formats = action_formats(spec, dataset)
    if body.action_format is not None and body.action_format not in formats:
        raise UnknownName("action_format", body.action_format, formats)
    if body.action_format == JOINT_POSITION and body.shows_pictures:
        raise RequestError("action_format: joint_position is for a scene, whose arm it moves, not for pictures")
    if body.preview or body.guard != "off":
        check_drives_arm(spec.actions_of(dataset).names)
    if body.num_samples > config.max_samples:
        raise RequestError(f"num_samples: {body.num_samples} is over this server's limit of {config.max_samples}")


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

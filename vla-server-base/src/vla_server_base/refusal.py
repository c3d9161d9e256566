"""What a policy cannot answer, refused before anything is rendered for it."""

from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.policies import ARM_ACTION, check_drives_arm
from vla_server_base.wire.predict import JOINT_POSITION, PredictRequest


def action_formats(spec: PolicySpec) -> tuple[str, ...]:
    """Return the formats that a request may ask for: the policy's own, and joint positions where it drives an arm."""
    return (*spec.action_formats, *([JOINT_POSITION] if spec.action_names == ARM_ACTION else []))


def check_predict(body: PredictRequest, spec: PolicySpec, config: ServerConfig) -> None:
    """Refuse what this policy cannot answer.

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
            check_proprio(len(observation.proprio), spec, where)
    formats = action_formats(spec)
    if body.action_format is not None and body.action_format not in formats:
        raise UnknownName("action_format", body.action_format, formats)
    if body.action_format == JOINT_POSITION and body.shows_pictures:
        raise RequestError("action_format: joint_position is for a scene, whose arm it moves, not for pictures")
    if body.preview or body.guard != "off":
        check_drives_arm(spec.action_names)
    if body.num_samples > config.max_samples:
        raise RequestError(f"num_samples: {body.num_samples} is over this server's limit of {config.max_samples}")


def check_proprio(num_given: int, spec: PolicySpec, where: str = "") -> None:
    """Refuse proprio of another length than this policy's; `where` is what its name begins with.

    Raises:
        RequestError: saying how long it is.
    """
    if num_given != spec.proprio_dim:
        takes = f"takes {spec.proprio_dim}" if spec.proprio_dim else "takes none"
        raise RequestError(f"{where}proprio: {num_given} numbers are given, this policy {takes}")

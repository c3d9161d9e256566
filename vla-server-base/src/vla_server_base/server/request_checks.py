"""What a policy cannot answer, refused before anything is rendered for it."""

from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicySpec
from vla_server_base.episodes.policies import ARM_ACTION, check_drives_arm
from vla_server_base.errors import RequestError, UnknownName
from vla_server_base.proprio import check_proprio
from vla_server_base.schemas.predict import JOINT_POSITION, PredictRequest


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

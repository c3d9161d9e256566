"""Where a model's files are: a folder, the last checkpoint of a training run, or a repository of the hub."""

from dataclasses import dataclass
from pathlib import Path

from lerobot_service.checkpoints.hub import SCHEME, Hub
from vla_server_base.errors import ModelUnavailable

CONFIG_FILE = "config.json"
# Where LeRobot's trainer puts the newest checkpoint, seen from a run's folder, its checkpoints and one of these.
IN_A_RUN = ("pretrained_model", "last/pretrained_model", "checkpoints/last/pretrained_model")
IN_STEPS = ("*/pretrained_model", "checkpoints/*/pretrained_model")


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A checkpoint's folder on this machine and, if it came from the hub, its commit."""

    folder: Path
    revision: str | None


def find_model(model_id: str, hub: Hub) -> ModelFolder:
    """Find the folder of a checkpoint: `hf://org/name[@revision]`, the folder, or that of the run that made it.

    Raises:
        ModelOutOfReach: the hub does not answer.
        ModelUnavailable: there is no such checkpoint; the hint says what to do.
    """
    if model_id.startswith(SCHEME):
        folder = hub.fetch_model(model_id)
        return ModelFolder(folder=_checkpoint_in(folder, model_id), revision=folder.name)
    if not model_id:
        raise ModelUnavailable("no model is named", hint="set LEROBOT_MODEL to a folder, or to hf://org/name")
    try:
        folder = Path(model_id).expanduser()
        if not folder.is_dir():
            raise ModelUnavailable(f"there is no folder '{model_id}'", hint="give one, or hf://org/name[@revision]")
        return ModelFolder(folder=_checkpoint_in(folder, model_id), revision=None)
    except (OSError, RuntimeError) as error:  # the latter for the home of an unknown user
        raise ModelUnavailable(
            f"the folder '{model_id[:200]}' cannot be read: {str(error)[:100]}", hint="give one that this user can read"
        ) from error


def _checkpoint_in(folder: Path, model_id: str) -> Path:
    steps = [path for pattern in IN_STEPS for path in sorted(folder.glob(pattern), reverse=True)]
    for candidate in (folder, *(folder / path for path in IN_A_RUN), *steps):
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    raise ModelUnavailable(
        f"'{model_id}' is not a checkpoint of LeRobot: it has no {CONFIG_FILE}, nor has a pretrained_model in it",
        hint="name the folder that lerobot-train saved, such as RUN/checkpoints/last/pretrained_model",
    )

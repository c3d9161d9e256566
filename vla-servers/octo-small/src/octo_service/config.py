"""OctoConfig: which Octo is served; the server's own settings are vla_server_base's ServerConfig."""

from dataclasses import dataclass
from pathlib import Path

from octo_service.model import Precision
from vla_server_base.config import Count, PolicySettings


@dataclass(frozen=True, kw_only=True)
class OctoConfig(PolicySettings):
    """Each field is also an environment variable: `model` is `OCTO_MODEL`."""

    not_settings = ("OCTO_T5_VOCABULARY",)  # the tests'

    model: str = "hf://rail-berkeley/octo-small-1.5"
    """A checkpoint's folder, hf://organization/name[@revision], bundled://tabletop, or random://octo-small-1.5."""

    tokenizer: Path | None = None
    """The text encoder's spiece.model or tokenizer.json; by default it comes from the hub."""

    dataset: str | None = None
    """Whose statistics un-normalize actions where a request names none; by default bridge_dataset, or the only one."""

    window: Count | None = None
    """How many observations the policy attends to (the reference's HistoryWrapper); by default the checkpoint's."""

    center_crop: bool = False
    """Show the policy the central 90 % of the primary camera's images, as the reference's ResizeImageWrapper can."""

    precision: Precision = "highest"
    """Of products of matrices: highest is float32, as the reference; default is the device's (TF32 on a GPU); bf16."""

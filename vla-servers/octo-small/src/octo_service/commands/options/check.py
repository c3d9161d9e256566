"""Flags of `octo-service check`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from octo_service.config import OctoConfig
from vla_server_base.commands.flags import flags_of


@dataclass(frozen=True, kw_only=True)
class Check:
    """Compare the model with recorded outputs of the reference; exit 1 if one is out of tolerance."""

    goldens: Path = Path(__file__).parents[4] / "tests" / "goldens"
    """The recorded outputs; they come with the source, not with the installed package."""

    only: tuple[str, ...] = ()
    """Names of the sets to compare; all by default."""

    out: Path | None = None
    """A Markdown file to write the tables to; they are printed in any case."""

    octo: Annotated[OctoConfig, flags_of(OctoConfig, "OCTO", "tokenizer")]

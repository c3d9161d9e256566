"""Flags of `octo-service convert`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from octo_service.config import OctoConfig
from vla_server_base.commands.flags import flags_of


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write any checkpoint (a folder of any form, hf://, bundled://, random://) in the reference's one-file layout."""

    source: Annotated[str, tyro.conf.Positional]
    """The checkpoint to read."""

    target: Annotated[Path, tyro.conf.Positional]
    """The folder to write to."""

    step: int | None = None
    """Which step, if there are several; the latest by default."""

    form: Literal["reference", "safetensors"] = "reference"
    """safetensors are mapped into memory as they are, by this package alone."""

    octo: Annotated[OctoConfig, flags_of(OctoConfig, "OCTO", "tokenizer")]

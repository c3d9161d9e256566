"""Flags of `certify`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic

from pydantic import Field

from vla_server_base.commands.flags import Config, flags_of
from vla_server_base.config import Count, ServerConfig


@dataclass(frozen=True, kw_only=True)
class Certify(Generic[Config]):
    """Measure what a policy answers here and write it to a file, or verify such a file; exit 1 on failure."""

    out: Path | None = None
    """The file to write, such as certificate.json."""

    verify: Path | None = None
    """A certificate to verify: its model and settings count, those below do not."""

    num: Annotated[int, Field(ge=2, le=256)] = 8
    """Inputs whose outputs the certificate has."""

    predictions: Count = 100
    """Predictions to time."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "device", "cache_dir")]
    config: Config

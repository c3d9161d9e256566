"""Flags of `octo-service serve`."""

from dataclasses import dataclass
from typing import Annotated

from octo_service.commands.flags import flags_of
from octo_service.config import OctoConfig
from vla_server_base.config import ServerConfig


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve Octo over HTTP."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA")]
    octo: Annotated[OctoConfig, flags_of(OctoConfig, "OCTO")]

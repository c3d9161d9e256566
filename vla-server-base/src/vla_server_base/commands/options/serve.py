"""Flags of `serve`."""

from dataclasses import dataclass
from typing import Annotated, Generic, Literal

from vla_server_base.commands.flags import Config, flags_of
from vla_server_base.config import ServerConfig
from vla_server_base.fleet.settings import FleetSettings


@dataclass(frozen=True, kw_only=True)
class Serve(Generic[Config]):
    """Serve the policy over HTTP."""

    engine: Literal["in-process", "ray"] = "in-process"
    """Where the policy runs: in the server's own process, or on a cluster of Ray (extra ray)."""
    fleet: Annotated[FleetSettings, flags_of(FleetSettings, "FLEET")]
    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA")]
    config: Config

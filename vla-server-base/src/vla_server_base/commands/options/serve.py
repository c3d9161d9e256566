"""Flags of `serve`."""

from dataclasses import dataclass
from typing import Annotated, Generic

from vla_server_base.commands.flags import Config, flags_of
from vla_server_base.config import ServerConfig


@dataclass(frozen=True, kw_only=True)
class Serve(Generic[Config]):
    """Serve the policy over HTTP."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA")]
    config: Config

"""Flags of `replay`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from vla_server_base.commands.flags import flags_of
from vla_server_base.config import Count, ServerConfig


@dataclass(frozen=True, kw_only=True)
class ReplaySessions:
    """Send the steps of a recording to a server again; print what it answers otherwise, and exit with 1 if it does."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Recordings (*.mcap) of VLA_RECORD, or folders of them, all files of a session that there are."""

    url: str = "http://127.0.0.1:8002"
    """The server."""

    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """How far two numbers of an action may be apart; 0 asks for the same bits."""

    sessions: str = "*"
    """Sessions to replay, by patterns of their ids, such as "arm-*"."""

    max_turns: Count | None = None
    """Stop after so many steps."""

    key_name: str = ""
    """The name of the API key in VLA_API_KEY, for a server that has keys."""

    show: Count = 20
    """The most differences to print."""

    server: Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "cache_dir")]

"""Flags of `keys`."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from pydantic import Field

from vla_server_base.commands.flags import flags_of
from vla_server_base.config import ServerConfig
from vla_server_base.request_context import Priority

_FileSetting = Annotated[ServerConfig, flags_of(ServerConfig, "VLA", "keys_file")]


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """Make an API key, print it once, and store its hash."""

    name: Annotated[str, tyro.conf.Positional]
    """Whose key it is, such as arm-1; logs and GET /sessions show it."""

    priority: Annotated[Priority | None, tyro.conf.arg(name="class")] = None
    """How urgent its requests are; by default a robot's, or as those of the key that it replaces."""

    rate: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """The most requests a second that it may send; by default as the key that it replaces, or any number."""

    expires: str | None = None
    """After how long it stops working, such as 90d or 12h; by default never."""

    rotate: str | None = None
    """Replace a key of this name, which works for this long yet, such as 1h; 0s ends it at once."""

    server: _FileSetting


@dataclass(frozen=True, kw_only=True)
class ListKeys:
    """List the API keys, without their secrets, which nobody can see again."""

    server: _FileSetting


@dataclass(frozen=True, kw_only=True)
class RevokeKey:
    """Remove an API key; running servers refuse it from the next message on."""

    name: Annotated[str, tyro.conf.Positional]
    """Its name."""

    server: _FileSetting


@dataclass(frozen=True, kw_only=True)
class KeysCommand:
    """Make, list and revoke API keys, in the file that VLA_KEYS_FILE names."""

    action: tyro.conf.OmitSubcommandPrefixes[
        Annotated[NewKey, tyro.conf.subcommand("new")]
        | Annotated[ListKeys, tyro.conf.subcommand("list")]
        | Annotated[RevokeKey, tyro.conf.subcommand("revoke")]
    ]

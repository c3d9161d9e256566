"""PolicyProgram: what the commands need to know of one policy's service."""

import pkgutil
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vla_server_base.config import PolicySettings, config_from_environment

if TYPE_CHECKING:  # `--help` needs none of it
    import vla_server_base.adapter
    import vla_server_base.commands.certificate
    import vla_server_base.contract

Config = TypeVar("Config", bound=PolicySettings)


@dataclass(frozen=True, kw_only=True)
class PolicyProgram(Generic[Config]):
    """One policy's service as a program: `name` is what people type, and `prefix` that of its settings' variables.

    `commands` are the options of each command by its name. `adapter`, a class that is constructed with a `config`, and
    `resize`, which resizes an image to height and width as the policy does, are named as `module:name`, so that
    `--help` imports no model. `packages` are those whose versions a report shows.
    `recorded` names a function that measures how far a loaded adapter is from recorded outputs, for `certify`.
    """

    name: str
    description: str
    config: type[Config]
    prefix: str
    commands: Mapping[str, Any]
    adapter: str
    resize: str
    packages: tuple[str, ...]
    recorded: str = ""

    @property
    def typed(self) -> str:
        """The command as it was typed."""
        return f"{self.name} {shlex.join(sys.argv[1:])}"

    def config_from_environment(self) -> Config:
        """Read the policy's settings.

        Raises:
            ConfigError: naming the variable, its value, and what it takes.
        """
        return config_from_environment(self.config, self.prefix)

    def make_adapter(self, config: Config) -> "vla_server_base.adapter.VLAModelAdapter":
        """Import the adapter and construct it; it loads nothing yet."""
        return pkgutil.resolve_name(self.adapter)(config)

    def deviations(
        self, adapter: "vla_server_base.adapter.VLAModelAdapter"
    ) -> "Iterable[vla_server_base.commands.certificate.Deviation]":
        """Measure how far a loaded adapter is from recorded outputs; nothing where there are none."""
        return pkgutil.resolve_name(self.recorded)(adapter) if self.recorded else ()

    @property
    def resizing(self) -> "Callable[[vla_server_base.contract.Image, int, int], vla_server_base.contract.Image]":
        """The policy's own way to resize an image to height and width."""
        return pkgutil.resolve_name(self.resize)

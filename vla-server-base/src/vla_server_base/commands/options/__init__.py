"""The flags of every service's commands, a module a command. They import little, for `--help`."""

from collections.abc import Mapping
from typing import Annotated, Any

from vla_server_base.commands.flags import flags_of
from vla_server_base.commands.options.certify import Certify
from vla_server_base.commands.options.convert_data import ConvertData
from vla_server_base.commands.options.demo import Demo
from vla_server_base.commands.options.demonstrate import Demonstrate
from vla_server_base.commands.options.evaluate import Evaluate
from vla_server_base.commands.options.keys import KeysCommand
from vla_server_base.commands.options.predict import Predict
from vla_server_base.commands.options.replay import ReplaySessions
from vla_server_base.commands.options.serve import Serve


def shared_commands(config: Any, prefix: str, *of_a_checkpoint: str) -> Mapping[str, Any]:
    """Return the options of the commands that every service has, by name.

    `config` has the policy's settings; `of_a_checkpoint` names those that count for `evaluate`, whose checkpoint
    is an argument.
    """
    settings: Any = Annotated[config, flags_of(config, prefix)]
    settings_of_a_checkpoint: Any = Annotated[config, flags_of(config, prefix, *of_a_checkpoint)]
    return {
        "serve": _with(Serve, settings),
        "demo": _with(Demo, settings),
        "predict": _with(Predict, settings),
        "demonstrate": Demonstrate,
        "evaluate": _with(Evaluate, settings_of_a_checkpoint),
        "convert-data": ConvertData,
        "keys": KeysCommand,
        "replay": ReplaySessions,
        "certify": _with(Certify, settings),
    }


def _with(options: Any, config: Any) -> Any:
    return options[config]

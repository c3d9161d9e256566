"""The command line: `octo-service serve|demo|predict|convert|check|demonstrate|finetune|evaluate`."""

import sys

import tyro

from octo_service.commands import Check, Convert, Demo, Predict, Serve
from octo_service.demonstrate import Demonstrate
from octo_service.errors import OctoError
from octo_service.evaluate import Evaluate
from octo_service.finetune import Finetune
from vla_server_base.errors import VLAError


def main() -> None:
    """Run one command; what went wrong is one sentence and exit code 1."""
    try:
        command = tyro.cli(
            Serve | Demo | Predict | Convert | Check | Demonstrate | Finetune | Evaluate,
            description="Octo, the open generalist robot policy, served.",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
        )
        command.run()
    except (OctoError, VLAError) as error:
        hint = getattr(error, "hint", None)
        sys.exit(f"octo-service: {error}" + (f"; {hint}" if hint else ""))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

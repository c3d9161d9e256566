"""The command line: `octo-service serve|demo|predict|evaluate|replay|certify|check|finetune` and more."""

from octo_service.program import OCTO
from vla_server_base.commands import command_line


def main() -> None:
    """Run one command; see `vla_server_base.commands.command_line`."""
    command_line.main(OCTO)


if __name__ == "__main__":
    main()

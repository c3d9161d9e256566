"""The command line: `lerobot-service serve|demo|predict|demonstrate|evaluate|convert-data|replay|certify|check`."""

from lerobot_service.program import LEROBOT
from vla_server_base.commands import command_line


def main() -> None:
    """Run one command; see `vla_server_base.commands.command_line`."""
    command_line.main(LEROBOT)


if __name__ == "__main__":
    main()

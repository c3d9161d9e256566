"""The flags of every command, those that only this service has a module a command. They import little, for `--help`."""

from lerobot_service.commands.options.check import OF_A_CHECKPOINT, CheckCheckpoint
from lerobot_service.config import LeRobotConfig
from vla_server_base.commands.options import shared_commands

COMMANDS = {**shared_commands(LeRobotConfig, "LEROBOT", *OF_A_CHECKPOINT), "check": CheckCheckpoint}

"""The flags of every command, those that only Octo has a module a command. They import little, for `--help`."""

from octo_service.commands.options.check import Check
from octo_service.commands.options.convert import Convert
from octo_service.commands.options.finetune import Finetune
from octo_service.config import OctoConfig
from vla_server_base.commands.options import shared_commands

COMMANDS = {
    **shared_commands(OctoConfig, "OCTO", "tokenizer", "dataset", "precision"),
    "convert": Convert,
    "check": Check,
    "finetune": Finetune,
}

"""The commands, a module a command, with their flags in options/. Only these modules and cli.py print."""

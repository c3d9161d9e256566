"""The commands that only this service has, a module a command, with their flags in options/."""

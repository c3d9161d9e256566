"""The commands that only Octo has, a module a command, with their flags in options/."""

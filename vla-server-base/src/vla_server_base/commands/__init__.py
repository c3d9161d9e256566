"""The commands of every service, a module a command, with their flags in options/. Only these modules print."""

"""What each command does, a module a command; options.py has what is typed. Only these, and cli.py, print."""

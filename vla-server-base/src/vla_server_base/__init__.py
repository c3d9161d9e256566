"""Everything that is the same for every vision-language-action policy server."""

__version__ = "0.1.0"

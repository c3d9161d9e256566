"""Progress on standard error, by tqdm: one line that is written over, or without a terminal one now and then."""

import sys
from typing import Any

from tqdm import tqdm

LINE_EVERY_S = 30.0
"""Between two lines of progress in a log."""

# As tqdm has it, without the bar.
LINE_FORMAT = "{desc}: {n_fmt}/{total_fmt} {unit}s [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class _Lines:
    """Standard error as tqdm takes it for a file: a line at a time, without carriage returns and padding."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def progress(total: int, description: str, unit: str, initial: int = 0) -> "tqdm[Any]":
    """Begin to show how far something is, of how much, and when it will be done."""
    shown: dict[str, Any] = {"total": total, "desc": description, "unit": unit, "initial": initial}
    if sys.stderr.isatty():
        return tqdm(dynamic_ncols=True, **shown)
    times = {"mininterval": LINE_EVERY_S, "maxinterval": LINE_EVERY_S}
    return tqdm(file=_Lines(), bar_format=LINE_FORMAT, **times, **shown)  # pyright: ignore[reportArgumentType]


def phase(what: str) -> None:
    """Say what is done now that takes long and cannot be counted."""
    print(what, file=sys.stderr, flush=True)

"""Progress on standard error, by tqdm: a bar in a terminal, else a line every half minute."""

import sys
from typing import Any

from tqdm import tqdm

LINE_EVERY_S = 30.0
"""Seconds between two lines of progress in a log."""

# As tqdm has it, without the bar.
LINE_FORMAT = "{desc}: {n_fmt}/{total_fmt} {unit}s [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class _Lines:
    """Standard error as a file for tqdm: whole lines, without carriage returns and padding."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


def progress(total: int, description: str, unit: str, initial: int = 0) -> "tqdm[Any]":
    """Return a bar that shows how much of `total` is done, and when the rest will be."""
    shown: dict[str, Any] = {"total": total, "desc": description, "unit": unit, "initial": initial}
    if sys.stderr.isatty():
        return tqdm(dynamic_ncols=True, **shown)
    times = {"mininterval": LINE_EVERY_S, "maxinterval": LINE_EVERY_S}
    return tqdm(file=_Lines(), bar_format=LINE_FORMAT, **times, **shown)  # pyright: ignore[reportArgumentType]


def phase(step: str) -> None:
    """Print a step that takes long and has nothing to count."""
    print(step, file=sys.stderr, flush=True)

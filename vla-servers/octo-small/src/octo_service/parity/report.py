"""The comparisons as a page for people."""

import os
import platform
from collections.abc import Sequence
from itertools import groupby

import jax
import numpy as np

from octo_service.parity.measures import Comparison

INTRODUCTION = """# Parity with the reference

How far this model is from recorded outputs of octo-models/octo (tag v1.5, JAX 0.4.20, CPU), written by
`octo-service check --out docs/parity.md`. No trained weights are involved: both sides compute with the same
deterministic stand-in parameters. Errors are the largest absolute difference; normalized actions span ±5, and
un-normalized ones are counted in standard deviations of their dimension. Tolerances are three times what the
reference differs from itself between two compilations.
"""


def report(comparisons: Sequence[Comparison]) -> str:
    """Return Markdown: what it was measured on, a summary, and a table for each set."""
    failed = [comparison for comparison in comparisons if not comparison.passed]
    lines = [
        INTRODUCTION,
        f"Measured with jax {jax.__version__} and numpy {np.__version__} on Python {platform.python_version()}, "
        f"{jax.devices()[0].device_kind} ({platform.machine()}, {os.cpu_count()} cores): "
        f"{len(comparisons)} comparisons, {len(failed)} out of tolerance.\n",
    ]
    for name, rows in groupby(comparisons, key=lambda comparison: comparison.golden):
        lines += [f"## {name}\n", "| case | quantity | max error | tolerance | |", "|---|---|---|---|---|"]
        lines += [
            f"| {row.case} | {row.quantity} | {row.max_error:.2g} | {row.tolerance:g} | {_verdict(row)} |"
            for row in rows
        ]
        lines.append("")
    return "\n".join(lines)


def _verdict(row: Comparison) -> str:
    return "" if row.passed else "FAILED"

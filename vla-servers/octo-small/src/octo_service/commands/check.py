"""`octo-service check`: the model against recorded outputs of the reference."""

import sys

from octo_service import parity
from octo_service.commands.options.check import Check
from octo_service.config import OctoConfig
from vla_server_base.commands.program import PolicyProgram


def run(options: Check, _program: PolicyProgram[OctoConfig]) -> None:
    """Print one table per set."""
    comparisons = list(parity.compare_all(options.goldens, options.only, options.octo.tokenizer))
    report = parity.report(comparisons)
    print(report)
    if options.out is not None:
        options.out.write_text(report)
    if not all(comparison.passed for comparison in comparisons):
        sys.exit(1)

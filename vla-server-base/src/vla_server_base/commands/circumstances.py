"""When, where and how a command runs, for the head of a report."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from datetime import date
from typing import Any

from vla_server_base.commands.program import PolicyProgram
from vla_server_base.machine import processor


def circumstances(program: PolicyProgram[Any], policy: Mapping[str, Any]) -> Mapping[str, str]:
    """Return command, date, machine, versions and policy, in words."""
    versions = [f"{name} {version}" for name, version in versions_of(program).items() if name != "python"]
    return {
        "command": program.typed,
        "date": str(date.today()),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "versions": ", ".join((f"Python {platform.python_version()}", *versions)),
        "policy": _policy(policy),
    }


def weights_hash(policy: Mapping[str, Any]) -> str | None:
    """Return the hash of a policy's weights; None where its server says none."""
    return policy["details"].get("checkpoint_hash")


def _policy(policy: Mapping[str, Any]) -> str:
    step, number = policy["details"].get("step"), weights_hash(policy)
    known = (policy["model"], step is not None and f"step {step}", number and number[:12])
    return f"{', '.join(part for part in known if part)} on {policy['device']}"


def versions_of(program: PolicyProgram[Any]) -> dict[str, str]:
    """Return the versions of Python and of the packages that a report shows."""
    versions = {name: importlib.metadata.version(name) for name in program.packages}
    return {"python": platform.python_version(), **versions}

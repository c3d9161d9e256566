"""When, where and how a command runs, for the head of a report."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from vla_server_base.commands.program import PolicyProgram


def circumstances(program: PolicyProgram[Any], policy: Mapping[str, Any]) -> Mapping[str, str]:
    """Return command, date, machine, versions and policy, in words."""
    details = policy["details"]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in program.packages]
    return {
        "command": program.typed,
        "date": str(date.today()),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "versions": ", ".join((f"Python {platform.python_version()}", *versions)),
        "policy": f"{policy['model']}, step {details.get('step')}, {str(details.get('checkpoint_hash'))[:12]}"
        f" on {policy['device']}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    return names[0] if names else platform.machine()

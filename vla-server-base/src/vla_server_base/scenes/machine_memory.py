"""The memory limit: the machine's, or that of its container, service or Slurm job."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def machine_memory_mb() -> int:
    """Return the memory that this process and its children may have together."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *_limits(Path("/proc/self/cgroup"))]) // 2**20


def _limits(membership: Path) -> Iterator[int]:
    """Yield the limit of each control group that this process is in, of both versions of them (man 7 cgroups)."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            root, name = CGROUPS / "memory", "memory.limit_in_bytes"
        elif not controllers:
            root, name = CGROUPS, "memory.max"
        else:
            continue
        # In a container the path may be the host's: missing folders are skipped, the root exists.
        group = root / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
            yield from _number_in(folder / name)


def _number_in(file: Path) -> Iterator[int]:
    try:
        yield int(file.read_text())
    except (OSError, ValueError):  # the file is missing, or says "max"
        return

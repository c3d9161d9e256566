"""How many bytes are free for training: of the GPU, or of the machine within the limits that this process has."""

import resource
from collections.abc import Iterator
from pathlib import Path

import jax

MEMINFO, STATUS, CGROUP = Path("/proc/meminfo"), Path("/proc/self/status"), Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")
# What a control group says of its memory, by the controllers that its line names.
VERSIONS = {
    "": ("memory.max", "memory.current", "inactive_file "),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
}


def free_bytes() -> int | None:
    """Return what the device that JAX runs on has left for this process; None if the system does not say."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    return min([*_of_machine(MEMINFO), *_of_process(STATUS), *_of_groups(CGROUP, MOUNT)], default=None)


def _of_machine(meminfo: Path) -> Iterator[int]:
    if meminfo.exists():
        yield _field(meminfo, "MemAvailable:") * 1024


def _of_process(status: Path) -> Iterator[int]:
    """Give what is left under the limits of this process (ulimit -v, ulimit -d)."""
    for limit, used in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        allowed = resource.getrlimit(limit)[0]
        if allowed != resource.RLIM_INFINITY and status.exists():
            yield max(0, allowed - _field(status, used) * 1024)


def _of_groups(cgroup: Path, mount: Path) -> Iterator[int]:
    """Give what is left in each control group around this process, of either version; caches of files count as free."""
    if not cgroup.exists():
        return
    for line in cgroup.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in VERSIONS:
            continue
        # In a container the path may be the host's, and what is mounted at the top the container's own group.
        limit, usage, cached = VERSIONS[controllers]
        inside = mount / controllers / path.lstrip("/")
        for folder in [inside, *inside.parents]:
            if (folder / limit).exists() and (allowed := (folder / limit).read_text().strip()) != "max":
                used = int((folder / usage).read_text()) - _field(folder / "memory.stat", cached)
                yield max(0, int(allowed) - used)


def _field(file: Path, name: str) -> int:
    return next((int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(name)), 0)

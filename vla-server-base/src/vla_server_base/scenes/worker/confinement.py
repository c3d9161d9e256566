"""Confines a scene worker before it reads a client's scene: its files, memory, time and lifetime."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

from vla_server_base.scenes.messages import Confinement
from vla_server_base.scenes.worker import system_calls

PR_SET_PDEATHSIG = 1
DEVICE_FOLDERS = ("/dev/dri/", "/dev/nv", "/dev/kfd", "/dev/mali", "/dev/dxg")
FOLDERS = ("/dev/shm", "/tmp", "/var/tmp")
MOST_OPEN_FILES = 1024

MAX_FILE_BYTES = 16 << 20
"""Of any file, above all standard error: a scene may make libraries print forever."""

LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None)


def end_with_parent() -> None:
    """Let the kernel end this process when the thread that started it ends, even in an endless loop."""
    if LINUX:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end_before_others() -> None:
    """Let the kernel end this process, not the server, if the machine or its container runs out of memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def leave_no_files() -> None:
    """Work in a folder that is deleted: MuJoCo appends its log to the working folder, and reads files there."""
    folder = _new_folder()
    os.chdir(folder)
    os.rmdir(folder)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)


def _new_folder() -> str:
    try:
        return tempfile.mkdtemp(prefix="vla-scene-")
    except FileNotFoundError:
        # No folder for temporary files takes a byte, as where the disk is full; a folder needs none.
        usable = [folder for folder in FOLDERS if os.access(folder, os.W_OK)]
        if not usable:
            raise
        return tempfile.mkdtemp(prefix="vla-scene-", dir=usable[0])


def limit_memory(megabytes: int) -> None:
    """Let the process take this much more address space than it has, or less if it is limited already.

    The present size does not count: a graphics driver may reserve tens of gigabytes that it never touches.
    """
    if not LINUX:
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + megabytes * 1024 * 1024)


def limit_cpu(seconds: float) -> None:
    """Let the kernel end this process after this much more processor time of all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (_least(soft, hard), hard))


def _lower(limit: int, wanted: int) -> None:
    """Set a limit for good; a lower one that was set from outside stays."""
    least = _least(wanted, *resource.getrlimit(limit))
    resource.setrlimit(limit, (least, least))


def _least(*limits: int) -> int:
    return min(limit for limit in limits if limit != resource.RLIM_INFINITY)


def forbid_files(*, landlocked: bool = False) -> Confinement:
    """Deny files, the network and programs to all threads; return which of these the kernel denies now.

    Call it after the renderer has drawn: from then on nothing can be opened or imported. Only with a graphics card's
    device can files still be opened, those that Landlock allows; `landlocked`, whether it binds all threads.
    """
    device = _draws_with_a_device()
    reason = system_calls.forbid_system_calls(device=device)
    filtered = reason is None
    files = landlocked or (filtered and not device)
    if not files and filtered:
        reason = "with a GPU, Landlock (Linux 5.13) restricts access to files, but not for every thread"
    return Confinement(files=files, network=filtered, programs=filtered, reason=reason)


def _draws_with_a_device() -> bool:
    opened = (Path(f"/proc/self/fd/{number}") for number in range(MOST_OPEN_FILES))
    return any(str(os.readlink(each)).startswith(DEVICE_FOLDERS) for each in opened if each.is_symlink())

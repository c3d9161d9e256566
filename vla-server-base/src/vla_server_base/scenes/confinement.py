"""What a scene worker gives up before it reads a stranger's scene: files, memory, time, outliving us."""

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
import sysconfig
import tempfile
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
# One number on every architecture that came after Linux 5.0; linux/landlock.h for the rest.
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
NETWORK_SINCE, SCOPES_SINCE = 4, 6
# How many rights over files each version knows; ioctl on devices is left out, since drivers live by it.
NUM_FILE_RIGHTS = {1: 13, 2: 14}
MOST_FILE_RIGHTS = 15

# Libraries that Python and OpenGL may still load, and the devices a graphics driver opens.
READABLE = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/share", "/sys")
DEVICES = ("/dev", "/proc/driver")

MAX_FILE_BYTES = 16 << 20
"""Of any file, which leaves standard error: libraries may complain for as long as a scene lets them."""

LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None)


def end_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends, even in an endless loop."""
    if LINUX:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end_before_others() -> None:
    """Have the kernel end this process, not the server, where the machine or its container runs out of memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def leave_no_files() -> None:
    """Work in a folder that is gone: MuJoCo appends its log to the working folder, and finds files there."""
    folder = tempfile.mkdtemp(prefix="vla-scene-")
    os.chdir(folder)
    os.rmdir(folder)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))


def limit_memory(megabytes: int) -> None:
    """Let the process take this much address space beyond what it has, or less where it may have less already.

    What it has counts nothing: a graphics driver may reserve tens of gigabytes that it never touches.
    """
    if not LINUX:
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * resource.getpagesize() + megabytes * 1024 * 1024
    limits = (wanted, *resource.getrlimit(resource.RLIMIT_AS))
    limit = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def limit_cpu(seconds: float) -> None:
    """End this process when it has used this much more processor time, counting all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def forbid_files() -> bool:
    """Give up new rights, all files but libraries and devices, and the network; False on an older kernel.

    Rests on Landlock (Linux 5.13, unprivileged). Binds this thread and the threads it starts.
    """
    if not LINUX:
        return False
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = _libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    files = (1 << NUM_FILE_RIGHTS.get(version, MOST_FILE_RIGHTS)) - 1
    handled = struct.pack("<Q", files)
    if version >= NETWORK_SINCE:
        handled += struct.pack("<Q", 0b11)
    if version >= SCOPES_SINCE:
        handled += struct.pack("<Q", 0b11)
    rules = _libc.syscall(SYS_LANDLOCK_CREATE_RULESET, handled, len(handled), 0)
    if rules < 0:
        return False
    python = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    for path in (*READABLE, *python):
        _allow(rules, path, EXECUTE | READ_FILE | READ_DIR)
    for path in DEVICES:
        _allow(rules, path, READ_FILE | READ_DIR | WRITE_FILE)
    restricted = _libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, rules, 0) == 0
    os.close(rules)
    return restricted


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        folder = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return
    attribute = struct.pack("<Qi", rights, folder)
    _libc.syscall(SYS_LANDLOCK_ADD_RULE, rules, LANDLOCK_RULE_PATH_BENEATH, attribute, 0)
    os.close(folder)

"""Landlock: which files a scene worker may open. See https://docs.kernel.org/userspace-api/landlock.html"""

import ctypes
import importlib.util
import os
import site
import stat
import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
# One number on every architecture that came after Linux 5.0; linux/landlock.h for the rest.
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
LANDLOCK_RESTRICT_SELF_TSYNC = 1 << 3
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
NETWORK_SINCE, SCOPES_SINCE, EVERY_THREAD_SINCE = 4, 6, 8
# How many rights over files each version knows; ioctl on devices is left out, since drivers live by it.
NUM_FILE_RIGHTS = {1: 13, 2: 14}
MOST_FILE_RIGHTS = 15

# Libraries that Python and OpenGL may still load, and what a graphics driver reads about itself and the machine.
LIBRARIES = (
    "/lib",
    "/lib64",
    "/nix/store",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/cuda",
    "/usr/local/lib",
    "/usr/local/nvidia",
    "/usr/share",
)
DRIVER_FILES = (
    "/sys",
    "/proc/cpuinfo",
    "/proc/devices",
    "/proc/driver",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/self/cmdline",
    "/proc/self/maps",
    "/proc/self/statm",
    "/proc/self/status",
    "/proc/stat",
    "/proc/sys/vm",
    "/proc/version",
    "/etc/drirc",
    "/etc/egl",
    "/etc/glvnd",
    "/etc/ld.so.cache",
    "/etc/nvidia",
    "/run/opengl-driver",
    "/run/opengl-driver-32",
)
HARMLESS_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
GRAPHICS_DEVICES = ("dri/*", "dxg", "kfd", "mali*", "nvhost*", "nvidia*", "nvidia-caps/*", "nvmap")
PACKAGES = ("vla_server_base", "mujoco", "numpy", "OpenGL", "PIL")


def restrict_files(*, graphics_devices: bool) -> bool:
    """Let this process open only libraries and graphics devices; return whether that binds every thread.

    Landlock (Linux 5.13) binds the thread that asks and those that it starts; from version 8 on (Linux 7.0) all.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    alone = len(os.listdir("/proc/self/task")) == 1
    rules = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, *_handled(version), 0)
    if rules < 0:
        return False
    for path in (*LIBRARIES, *DRIVER_FILES, *_python_folders(), *_library_folders()):
        _allow(libc, rules, path, EXECUTE | READ_FILE | READ_DIR)
    devices = [str(path) for pattern in GRAPHICS_DEVICES for path in Path("/dev").glob(pattern)]
    for path in (*HARMLESS_DEVICES, *(devices if graphics_devices else ())):
        _allow(libc, rules, path, READ_FILE | WRITE_FILE)
    every_thread = not alone and version >= EVERY_THREAD_SINCE
    flags = LANDLOCK_RESTRICT_SELF_TSYNC if every_thread else 0
    restricted = libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, rules, flags) == 0
    os.close(rules)
    return restricted and (alone or every_thread)


def _handled(version: int) -> tuple[bytes, int]:
    """Return the ruleset's attributes: all rights over files, TCP and other processes that this version knows."""
    handled = struct.pack("<Q", (1 << NUM_FILE_RIGHTS.get(version, MOST_FILE_RIGHTS)) - 1)
    if version >= NETWORK_SINCE:
        handled += struct.pack("<Q", 0b11)
    if version >= SCOPES_SINCE:
        handled += struct.pack("<Q", 0b11)
    return handled, len(handled)


def _python_folders() -> Iterator[str]:
    yield from (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from (os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix))
    if site.ENABLE_USER_SITE:
        yield site.getusersitepackages()
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        yield from (spec.submodule_search_locations or ()) if spec else ()


def _library_folders() -> Iterator[str]:
    yield from filter(os.path.isabs, os.environ.get("LD_LIBRARY_PATH", "").split(":"))


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(opened).st_mode):
        rights &= ~READ_DIR
    attribute = struct.pack("<Qi", rights, opened)
    libc.syscall(SYS_LANDLOCK_ADD_RULE, rules, LANDLOCK_RULE_PATH_BENEATH, attribute, 0)
    os.close(opened)

"""A scene worker that somebody has taken over: it starts as every worker does, then tries what it may not do.

    python taken_over_worker.py RENDERER SECRET_FILE

Writes how it is confined, reads the ids of its threads, and writes for each what became of each attempt there. It
tries no more than it says it is confined against.
"""

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import sys
import tempfile
import threading
import time
from typing import cast

from vla_server_base.errors import VLAError
from vla_server_base.scenes.messages import RendererName, RenderQuality, WorkerSettings
from vla_server_base.scenes.worker import confinement
from vla_server_base.scenes.worker.main import _start

FILES, NETWORK, PROGRAMS = "files", "network", "programs"
libc = ctypes.CDLL(None, use_errno=True)

# By their numbers on x86_64 and aarch64, with arguments that no kernel takes: they fail in any case, but not so.
CALLS = {
    NETWORK: {
        "connect": (42, 203),
        "bind": (49, 200),
        "listen": (50, 201),
        "sendto": (44, 206),
        "sendmsg": (46, 211),
        "socketpair": (53, 199),
        "io_uring_setup": (425, 425),
        "io_uring_enter": (426, 426),
    },
    PROGRAMS: {
        "execve": (59, 221),
        "execveat": (322, 281),
        "clone3": (435, 435),
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "process_madvise": (440, 440),
        "pidfd_open": (434, 434),
        "pidfd_getfd": (438, 438),
        "pidfd_send_signal": (424, 424),
        "tkill": (200, 130),
        "rt_sigqueueinfo": (129, 138),
        "bpf": (321, 280),
        "perf_event_open": (298, 241),
        "userfaultfd": (323, 282),
        "keyctl": (250, 219),
        "add_key": (248, 217),
        "unshare": (272, 97),
        "setns": (308, 268),
        "init_module": (175, 105),
        "setuid": (105, 146),
        "setpriority": (141, 140),
        "sched_setaffinity": (203, 122),
        "kcmp": (312, 272),
        "openat2": (437, 437),
        "open_by_handle_at": (304, 265),
        "name_to_handle_at": (303, 264),
        "mount": (165, 40),
        "chroot": (161, 51),
        "memfd_create": (319, 279),
        "shmget": (29, 194),
    },
}
# Landlock says EXDEV of a link to another folder.
DENIED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EXDEV)


def main(renderer: str, secret: str) -> None:
    tried = {**python_attempts(secret), **system_calls()}
    confinement.leave_no_files()
    answer, _ = _start(
        WorkerSettings(
            renderer=cast(RendererName, renderer),
            quality=RenderQuality(shadows=False, reflections=False, multisampling=0),
            timeout_s=60,
            memory_mb=4096,
            max_scenes=300,
            max_jobs=300,
            confinement_required=False,
        )
    )
    how = answer.confinement
    if how is None:
        assert isinstance(answer.outcome, VLAError)
        return print(json.dumps({"unavailable": answer.outcome.message}))
    attempts = {(kind, name): attempt for (kind, name), attempt in tried.items() if getattr(how, kind)}
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    print(json.dumps({"files": how.files, "network": how.network, "programs": how.programs, "reason": how.reason}))
    sys.stdout.flush()
    threads = json.loads(sys.stdin.readline())
    print(json.dumps({thread: outcomes_in(thread, attempts) for thread in threads}))
    sys.stdout.flush()
    os._exit(0)


def python_attempts(secret: str) -> dict:
    def signal_owner():
        mine, _ = pair
        failed = libc.fcntl(mine.fileno(), 8, os.getppid())  # F_SETOWN: it gets SIGIO, or any signal
        if failed:
            raise OSError(ctypes.get_errno(), "fcntl")

    pair = socket.socketpair()
    folder, temporary = os.path.dirname(secret), tempfile.gettempdir()
    return {
        (FILES, "read /etc/shadow"): lambda: os.open("/etc/shadow", os.O_RDONLY),
        (FILES, "read a secret of the user"): lambda: os.open(secret, os.O_RDONLY),
        (FILES, "read its environment"): lambda: os.open("/proc/self/environ", os.O_RDONLY),
        (FILES, "read the server's environment"): lambda: os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY),
        (FILES, "write the server's memory"): lambda: os.open(f"/proc/{os.getppid()}/mem", os.O_RDWR),
        (FILES, "read what there is in /dev"): lambda: os.listdir("/dev"),
        (FILES, "read the kernel's log"): lambda: os.open("/dev/kmsg", os.O_RDONLY),
        (FILES, "create in /dev/shm"): lambda: os.open("/dev/shm/vla-escape", os.O_CREAT | os.O_WRONLY),
        (FILES, "create in the temporary folder"): lambda: os.open(
            os.path.join(temporary, "vla-escape"), os.O_CREAT | os.O_WRONLY
        ),
        (FILES, "create beside the secret"): lambda: os.mkdir(os.path.join(folder, "escaped")),
        (FILES, "remove the secret"): lambda: os.unlink(secret),
        (FILES, "link to the secret"): lambda: os.link(secret, secret + ".link"),
        (NETWORK, "TCP"): lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        (NETWORK, "UDP"): lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        (NETWORK, "IPv6"): lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        (NETWORK, "ICMP"): lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        (NETWORK, "netlink"): lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        (NETWORK, "unix"): lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        (NETWORK, "vsock"): lambda: socket.socket(40, socket.SOCK_STREAM),
        (NETWORK, "pass a descriptor on"): lambda: socket.send_fds(pair[0], [b"x"], [0]),
        (PROGRAMS, "change the secret's mode"): lambda: os.chmod(secret, 0o666),
        (PROGRAMS, "signal the server"): lambda: os.kill(os.getppid(), 0),
        (PROGRAMS, "signal the group"): lambda: os.kill(0, 0),
        (PROGRAMS, "signal the server by a descriptor"): signal_owner,
        (PROGRAMS, "limit the server"): lambda: __import__("resource").prlimit(os.getppid(), 7),
        (PROGRAMS, "fork"): os.fork,
        (PROGRAMS, "run /bin/true"): lambda: os.posix_spawn("/bin/true", ["true"], {}),
    }


def system_calls() -> dict:
    column = ("x86_64", "aarch64").index(platform.machine())

    def call(number):
        nothing = ctypes.c_long(-1)
        if libc.syscall(ctypes.c_long(number), nothing, nothing, nothing, nothing, nothing, nothing) < 0:
            raise OSError(ctypes.get_errno(), "")

    attempts = {}
    for kind, calls in CALLS.items():
        for name, numbers in calls.items():
            attempts[kind, name] = lambda number=numbers[column]: call(number)
    if column == 0:
        attempts[PROGRAMS, "open, of x32"] = lambda: call(0x4000_0000 | 2)
        attempts[NETWORK, "socket, of x32"] = lambda: call(0x4000_0000 | 41)
    return attempts


def outcomes_in(thread: int, attempts: dict) -> dict[str, dict[str, str]] | None:
    """Make every attempt in a thread of this process; None where it cannot be got at."""
    if thread == os.getpid():
        return outcomes(attempts)
    reached = []
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: reached.append(outcomes(attempts)))
    # Mesa's threads hear no other signal.
    libc.signal(signal.SIGSYS, handler)
    libc.syscall(234 if platform.machine() == "x86_64" else 131, os.getpid(), thread, signal.SIGSYS)
    for _ in range(600):
        if reached:
            return reached[0]
        time.sleep(0.05)
    return None


def outcomes(attempts: dict) -> dict[str, dict[str, str]]:
    outcomes = {FILES: {}, NETWORK: {}, PROGRAMS: {}}
    for (kind, name), attempt in attempts.items():
        outcomes[kind][name] = outcome(attempt)
    return outcomes


def outcome(attempt) -> str:
    try:
        attempt()
    except OSError as error:
        return "denied" if error.errno in DENIED else errno.errorcode[error.errno or 0]
    return "done"


if __name__ == "__main__":
    main(*sys.argv[1:])

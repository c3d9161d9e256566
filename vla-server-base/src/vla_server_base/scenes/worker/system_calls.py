"""Which system calls a scene worker may still make: a seccomp filter for every thread, made of what is allowed.

What is not named here fails with EPERM, and calls younger than this list with ENOSYS, as libraries expect of an
older kernel. See https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from errno import ENOSYS, EPERM

PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 1, 1
KILL_PROCESS, FAIL, ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000

# Instructions of the kernel's packet filter (linux/bpf_common.h), and where seccomp_data has what they load.
LOAD, MASK, JUMP_IF_EQUAL, JUMP_IF_GREATER, RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16

NEWEST_KNOWN = 462
"""mseal, of Linux 6.10: higher numbers are answered with ENOSYS."""


@dataclass(frozen=True, kw_only=True)
class _Architecture:
    column: int
    audit_number: int
    seccomp: int


ARCHITECTURES = {
    "x86_64": _Architecture(column=0, audit_number=0xC000_003E, seccomp=317),
    "aarch64": _Architecture(column=1, audit_number=0xC000_00B7, seccomp=277),
}

# Each call's number on x86_64 and on aarch64 (asm/unistd_64.h, asm-generic/unistd.h); None where it is unknown.
PLAIN = {
    # What is open already
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "lseek": (8, 62),
    "close": (3, 57),
    "fstat": (5, 80),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    # Memory
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "mincore": (27, 232),
    "brk": (12, 214),
    "membarrier": (324, 283),
    # Threads
    "futex": (202, 98),
    "futex_waitv": (449, 449),
    "set_robust_list": (273, 99),
    "set_tid_address": (218, 96),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "arch_prctl": (158, None),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # Who and when
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getcwd": (79, 17),
    "getrandom": (318, 278),
    "time": (201, None),
    "times": (100, 153),
    "gettimeofday": (96, 169),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    # Its own signals and limits
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigsuspend": (130, 133),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
}

# A driver goes on opening its devices for as long as it draws.
WITH_A_DEVICE = {
    "open": (2, None),
    "openat": (257, 56),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "stat": (4, None),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "memfd_create": (319, 279),
    "ftruncate": (77, 46),
    "eventfd2": (290, 19),
    "pipe2": (293, 59),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "mlock": (149, 228),
    "munlock": (150, 229),
}

EVERY_BIT = 0xFFFF_FFFF
CLONE_THREAD, CLONE_NEW_NAMESPACES = 0x0001_0000, 0x7E02_0080
AT_EMPTY_PATH = 0x1000
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: not F_SETOWN and F_SETSIG, which signal others.
FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)
# TCGETS, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: not FIOSETOWN, which signals others, and no terminal's input.
IOCTL_COMMANDS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)
# By their middle byte: NVIDIA's own and its UVM, DRM, AMD's KFD, DMA buffers, sync files, WSL's DXG.
IOCTL_OF_DEVICES = (0x4600, 0x0000, 0x6400, 0x4B00, 0x6200, 0x3E00, 0x4700)
# PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
PRCTL_COMMANDS = (15, 16, 0x5356_4D41)


@dataclass(frozen=True, kw_only=True)
class _Condition:
    """An argument whose bits under `mask` have one of these values."""

    argument: int
    mask: int = EVERY_BIT
    values: tuple[int, ...]


def forbid_system_calls(*, device: bool) -> str | None:
    """Leave every thread of this process only what drawing needs; return why that is not to be had here.

    With a `device` open, files may still be opened, as far as Landlock lets them be.
    """
    architecture = ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or sys.byteorder != "little" or struct.calcsize("P") != 8 or architecture is None:
        return f"seccomp is not used on {sys.platform} {platform.machine()}"
    program = b"".join(_program(architecture, device=device))
    code = ctypes.create_string_buffer(program, len(program))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    filter_ = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    failed = libc.syscall(architecture.seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, filter_)
    if failed == 0:
        return None
    if failed > 0:
        return f"seccomp does not reach the thread {failed}"
    return f"the kernel refuses seccomp: {os.strerror(ctypes.get_errno())}"


def _program(architecture: _Architecture, *, device: bool) -> Iterator[bytes]:
    yield _instruction(LOAD, ARCHITECTURE_AT)
    # Another architecture's calls have other numbers: a process that makes one has been taken over.
    yield _instruction(JUMP_IF_EQUAL, architecture.audit_number, 1, 0)
    yield _instruction(RETURN, KILL_PROCESS)
    yield _instruction(LOAD, NUMBER_AT)
    for numbers in (PLAIN | (WITH_A_DEVICE if device else {})).values():
        yield from _allow(numbers[architecture.column])
    for numbers, conditions in _conditional(device=device).items():
        yield from _allow(numbers[architecture.column], conditions)
    # So that the C library makes its threads by `clone`, whose flags a filter can see.
    yield from _when(435, [_instruction(RETURN, FAIL | ENOSYS)])
    # The numbers of x32 lie above as well.
    yield _instruction(JUMP_IF_GREATER, NEWEST_KNOWN, 0, 1)
    yield _instruction(RETURN, FAIL | ENOSYS)
    yield _instruction(RETURN, FAIL | EPERM)


def _conditional(*, device: bool) -> dict[tuple[int, int], list[_Condition]]:
    """Return what calls are allowed with some arguments only: any one of the conditions will do."""
    own = os.getpid()
    conditional = {
        # clone: a thread, nothing more
        (56, 220): [_Condition(argument=0, mask=CLONE_THREAD | CLONE_NEW_NAMESPACES, values=(CLONE_THREAD,))],
        # kill, tgkill: this process
        (62, 129): [_Condition(argument=0, values=(own,))],
        (234, 131): [_Condition(argument=0, values=(own,))],
        # prlimit64: this process
        (302, 261): [_Condition(argument=0, values=(0, own))],
        # fcntl, prctl
        (72, 25): [_Condition(argument=1, values=FCNTL_COMMANDS)],
        (157, 167): [_Condition(argument=0, values=PRCTL_COMMANDS)],
        # ioctl
        (16, 29): [_Condition(argument=1, values=IOCTL_COMMANDS)],
    }
    if device:
        conditional[16, 29].append(_Condition(argument=1, mask=0xFF00, values=IOCTL_OF_DEVICES))
    else:
        # newfstatat: how some C libraries ask about what is open already
        conditional[262, 79] = [_Condition(argument=3, mask=AT_EMPTY_PATH, values=(AT_EMPTY_PATH,))]
    return conditional


def _allow(number: int | None, conditions: Iterable[_Condition] = ()) -> Iterator[bytes]:
    if number is None:
        return
    body = []
    for condition in conditions:
        # The lower half: all of these arguments are of 32 bits, or the kernel reads no more of them.
        body += [_instruction(LOAD, ARGUMENTS_AT + 8 * condition.argument), _instruction(MASK, condition.mask)]
        for value in condition.values:
            body += _when(value, [_instruction(RETURN, ALLOW)])
    yield from _when(number, [*body, _instruction(RETURN, FAIL | EPERM if body else ALLOW)])


def _when(value: int, body: list[bytes]) -> list[bytes]:
    """Run `body` where what was loaded last is `value`, else jump over it."""
    return [_instruction(JUMP_IF_EQUAL, value, 0, len(body)), *body]


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)

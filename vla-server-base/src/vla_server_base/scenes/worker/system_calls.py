"""The seccomp filter of a scene worker, for every thread: it lets through the calls of `allowed_calls`.

Other calls fail with EPERM, and calls younger than this list with ENOSYS, as libraries expect of an
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

from vla_server_base.scenes.worker.allowed_calls import (
    AT_EMPTY_PATH,
    CLONE_NEW_NAMESPACES,
    CLONE_THREAD,
    FCNTL_COMMANDS,
    IOCTL_COMMANDS,
    IOCTL_OF_DEVICES,
    PLAIN,
    PRCTL_COMMANDS,
    WITH_A_DEVICE,
)

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


ALL_BITS = 0xFFFF_FFFF


@dataclass(frozen=True, kw_only=True)
class _Condition:
    """An argument whose bits under `mask` have one of these values."""

    argument: int
    mask: int = ALL_BITS
    values: tuple[int, ...]


def forbid_system_calls(*, device: bool) -> str | None:
    """Allow every thread of this process only what drawing needs; return the reason if that is impossible here.

    With a `device` open, files may still be opened, as far as Landlock allows.
    """
    architecture = ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or sys.byteorder != "little" or struct.calcsize("P") != 8 or architecture is None:
        return f"seccomp is not supported on {sys.platform} {platform.machine()}"
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
    """Return the calls that are allowed with some arguments only: one of the conditions must hold."""
    pid = os.getpid()
    conditional = {
        # clone: a thread, nothing more
        (56, 220): [_Condition(argument=0, mask=CLONE_THREAD | CLONE_NEW_NAMESPACES, values=(CLONE_THREAD,))],
        # kill, tgkill: this process
        (62, 129): [_Condition(argument=0, values=(pid,))],
        (234, 131): [_Condition(argument=0, values=(pid,))],
        # prlimit64: this process
        (302, 261): [_Condition(argument=0, values=(0, pid))],
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
    """Run `body` if the value loaded last is `value`, else jump over it."""
    return [_instruction(JUMP_IF_EQUAL, value, 0, len(body)), *body]


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)

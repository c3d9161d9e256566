"""Runs a program as an older kernel, or a container, would: `python old_kernel.py NUMBER,... PROGRAM ARGUMENT...`.

The system calls of these numbers fail with ENOSYS, in the program and all that it starts.
"""

import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
LOAD, JUMP_IF_EQUAL, RETURN, FAIL, ALLOW, ENOSYS = 0x20, 0x15, 0x06, 0x0005_0000, 0x7FFF_0000, 38


def main(numbers: str, *program: str) -> None:
    instructions = [struct.pack("HBBI", LOAD, 0, 0, 0)]
    for number in numbers.split(","):
        instructions.append(struct.pack("HBBI", JUMP_IF_EQUAL, 0, 1, int(number)))
        instructions.append(struct.pack("HBBI", RETURN, 0, 0, FAIL | ENOSYS))
    instructions.append(struct.pack("HBBI", RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(instructions))
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    filter_ = struct.pack("H6xQ", len(instructions), ctypes.addressof(code))
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_) == 0
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The system calls that a scene worker may make, by their numbers, and the arguments that they may have."""

# Each call's number on x86_64 and on aarch64 (asm/unistd_64.h, asm-generic/unistd.h); None if it is unknown.
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

# A driver continues to open its devices while it renders.
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

"""Why a worker process died."""

import signal
from typing import Literal

# Signals that people, service managers and the kernel without memory send.
SENT_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})

Cause = Literal["scene", "memory", "processor", "outside"]


class WorkerDied(Exception):
    """The process ended, or sent something that is not a reply.

    `cause` is the likely one: the scene, its memory or processor time, or a signal from outside, which is not the
    scene's fault.
    """

    def __init__(self, how: str, cause: Cause):
        super().__init__(how)
        self.cause: Cause = cause

    def __reduce__(self) -> tuple[type["WorkerDied"], tuple[str, Cause]]:
        return WorkerDied, (str(self), self.cause)


def restart_reason(cause: Cause) -> str:
    """Return the word for a worker's restart in `/metrics`, by the cause of its death."""
    return {"scene": "crash", "memory": "memory", "processor": "timeout", "outside": "killed"}[cause]


def death_of(returncode: int, error: Exception, exceeded_mb: int | None = None) -> WorkerDied:
    """Return the death of a process by its exit status and the error on reading its reply.

    `exceeded_mb` is the memory limit that it exceeded, if so.
    """
    if exceeded_mb is not None:
        return WorkerDied(f"it took more than {exceeded_mb} MB of memory", "memory")
    if returncode == -signal.SIGXCPU:
        return WorkerDied(_how(returncode, error), "processor")
    # Garbage was sent by a living process, which was then killed by the server.
    from_outside = -returncode in SENT_FROM_OUTSIDE and not isinstance(error, ValueError)
    return WorkerDied(_how(returncode, error), "outside" if from_outside else "scene")


def _how(returncode: int, error: Exception) -> str:
    if returncode < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"its worker was ended by {names.get(-returncode, f'signal {-returncode}')}"
    return f"its worker ended with status {returncode} ({type(error).__name__})"

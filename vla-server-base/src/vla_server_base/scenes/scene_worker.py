"""What the pool needs of a scene worker, wherever its process runs."""

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from vla_server_base.scenes.messages import Confinement, SceneJob, WorkerReply, WorkerSettings


@runtime_checkable
class SceneWorker(Protocol):
    """One worker process; `cached` has the keys of the scenes that it has compiled and kept.

    `compiled` has the keys of all scenes that it ever compiled and `clients` whose they were: a scene may have left
    anything in the process.
    """

    confinement: Confinement
    cached: frozenset[str]
    compiled: set[str]
    clients: set[str]

    @property
    def pid(self) -> int | None:
        """The process's id; None if it runs on another machine, or may do so."""
        ...

    @property
    def name(self) -> str:
        """Which process it is, for the log."""
        ...

    @property
    def resident_bytes(self) -> int:
        """How much memory the process takes, or took when it last replied."""
        ...

    async def run(self, job: SceneJob) -> WorkerReply:
        """Send a job, wait for its reply however long it takes, and update `cached`.

        Raises:
            WorkerDied: instead of a reply; also if the worker took more memory than it may.
        """
        ...

    async def ended(self) -> int:
        """Wait until the process has ended; return its exit status, negative for a signal."""
        ...

    def kill(self) -> None:
        """Kill the process now, without waiting for its end."""
        ...

    async def end(self) -> None:
        """Kill the process, and wait until it has ended."""
        ...


Launch = Callable[[WorkerSettings], Awaitable[SceneWorker]]
"""Starts a worker, and waits until it has shown that it can render; raises RendererUnavailable with the reason."""

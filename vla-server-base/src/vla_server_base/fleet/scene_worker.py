"""Scene workers on the nodes of a cluster: each an actor, which holds one confined process as a server holds its own.

>>> ScenePool(config, launch=partial(RaySceneWorker.launch, num_cpus=1.0))
"""

import asyncio
import os
import signal
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError

from vla_server_base.errors import RendererUnavailable
from vla_server_base.fleet.cluster import answer, environment_of_actors, reason_of
from vla_server_base.scenes.machine_memory import machine_memory_mb
from vla_server_base.scenes.messages import Confinement, SceneJob, WorkerReply, WorkerSettings
from vla_server_base.scenes.worker_death import WorkerDied
from vla_server_base.scenes.worker_process import WorkerProcess

LAUNCH_S = 120.0
"""In which a node has to be found and a worker started; a start takes 1 s, and 5 s beside the first actor of a node."""

NUM_CPUS = 0.5
"""That a worker takes of its node: there are more of them than compute at the same time."""


@dataclass(frozen=True, kw_only=True)
class LaunchedWorker:
    """What an actor says of its worker: where it runs, with the ids of both processes, and how it is confined."""

    node: str
    actor_pid: int
    pid: int
    confinement: Confinement
    resident_bytes: int


@dataclass(frozen=True, kw_only=True)
class ActorReply:
    """A worker's reply, and how much memory it takes now."""

    reply: WorkerReply
    resident_bytes: int


class SceneWorkerActor:
    """Holds one worker process, which the kernel ends when the actor ends, however that happens."""

    _worker: WorkerProcess

    async def launch(self, settings: WorkerSettings) -> LaunchedWorker:
        """Start the worker; it gets at most half of this node's memory."""
        memory_mb = min(settings.memory_mb, machine_memory_mb() // 2)
        self._worker = await WorkerProcess.launch(replace(settings, memory_mb=memory_mb))
        return LaunchedWorker(
            node=ray.util.get_node_ip_address(),
            actor_pid=os.getpid(),
            pid=self._worker.pid,
            confinement=self._worker.confinement,
            resident_bytes=self._worker.resident_bytes,
        )

    async def run(self, job: SceneJob) -> ActorReply:
        """Run a job in the worker."""
        return ActorReply(reply=await self._worker.run(job), resident_bytes=self._worker.resident_bytes)

    async def ended(self) -> int:
        """Wait until the worker has ended; return its exit status."""
        return await self._worker.ended()


class RaySceneWorker:
    """A worker on some node, as the pool has it; a lost actor or node is a worker that was ended from outside."""

    def __init__(self, handle: Any, launched: LaunchedWorker):
        self._handle = handle
        self.launched = launched
        self.confinement = launched.confinement
        self.resident_bytes = launched.resident_bytes
        self.cached: frozenset[str] = frozenset()
        self.compiled: set[str] = set()
        self.clients: set[str] = set()
        self._ended = asyncio.ensure_future(self._wait())

    pid = None

    @property
    def name(self) -> str:
        """Which process it is, for the log."""
        return f"{self.launched.node}/{self.launched.pid}"

    @classmethod
    async def launch(cls, settings: WorkerSettings, *, num_cpus: float = NUM_CPUS) -> "RaySceneWorker":
        """Start a worker on a node that has room for it, and wait until it has shown that it can render.

        Raises:
            RendererUnavailable: with the reason, also if no node has room.
        """
        # Off the loop: it asks the cluster which nodes it has.
        handle = await asyncio.to_thread(_actor, num_cpus)
        try:
            launched = await asyncio.wait_for(answer(handle.launch.remote(settings)), LAUNCH_S)
        except BaseException as error:
            ray.kill(handle)
            if not isinstance(error, RayError | asyncio.TimeoutError):
                raise
            reason = f"not started within {LAUNCH_S:.0f} s" if isinstance(error, TimeoutError) else reason_of(error)
            raise RendererUnavailable(
                f"{settings.renderer} does not work on this cluster: {reason}",
                hint=f"a worker takes {num_cpus:g} CPUs of a node, which needs this server's environment",
            ) from error
        return cls(handle, launched)

    async def run(self, job: SceneJob) -> WorkerReply:
        """Send a job, wait for its reply however long it takes, and update `cached`.

        Raises:
            WorkerDied: instead of a reply; also if the worker took more memory than it may.
        """
        send = self._handle.run.remote
        try:
            # Off the loop if there is a scene: it may have 60 MB of meshes.
            replied = await answer(send(job) if job.scene is None else await asyncio.to_thread(send, job))
        except RayError as error:
            self.kill()
            raise WorkerDied(f"its worker at {self.name} was lost ({reason_of(error)})", "outside") from error
        self.cached, self.resident_bytes = replied.reply.cached, replied.resident_bytes
        return replied.reply

    async def _wait(self) -> int:
        try:
            return await answer(self._handle.ended.remote())
        except RayError:
            return -signal.SIGKILL

    async def ended(self) -> int:
        """Wait until the process has ended; return its exit status, that of SIGKILL if its actor was lost."""
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        """Kill the actor now, and the process with it, without waiting for their end."""
        ray.kill(self._handle)

    async def end(self) -> None:
        """Kill the actor and the process, and wait until they have ended."""
        self.kill()
        await self.ended()


def _actor(num_cpus: float) -> Any:
    kind = ray.remote(SceneWorkerActor).options(
        num_cpus=num_cpus, scheduling_strategy="SPREAD", runtime_env=environment_of_actors()
    )
    return kind.remote()

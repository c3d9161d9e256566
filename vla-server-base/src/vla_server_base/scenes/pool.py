"""ScenePool: scenes in, images and simulations out, through worker processes that a scene may kill."""

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from types import TracebackType

from cachetools import TTLCache

from vla_server_base.config import ServerConfig
from vla_server_base.errors import SceneCrashed, SceneError, SceneTimeout, SceneTooLarge, Unavailable, VLAError
from vla_server_base.monitoring.monitor import Monitoring
from vla_server_base.request_context import current_client
from vla_server_base.scenes.messages import (
    Confinement,
    GltfReply,
    GltfRequest,
    JobReply,
    JobRequest,
    RendererName,
    RenderReply,
    RenderRequest,
    RolloutReply,
    RolloutRequest,
    Scene,
    SceneJob,
    WorkerReply,
)
from vla_server_base.scenes.scene_worker import Launch, SceneWorker
from vla_server_base.scenes.worker_death import WorkerDied, restart_reason
from vla_server_base.scenes.worker_launch import launch_first
from vla_server_base.scenes.worker_process import WorkerProcess, within
from vla_server_base.scenes.worker_queue import WorkerRequest
from vla_server_base.scenes.workers import BackgroundTasks, SceneWorkers, stopping

logger = logging.getLogger(__name__)

SMALL_SCENE_BYTES = 1_000_000

EXPIRY_S = 30.0
"""For how long the workers that a scene cost are counted."""

MAX_WORKERS = 2
"""That one scene of one client may cost in that time."""

MAX_VERDICTS = 1000


class ScenePool:
    """Renders and simulates scenes in worker processes. A job whose worker is lost is done once more by another.

    After the start, `renderer` is the one in use and `confinement` what the kernel denies to the workers;
    `tried` has the reason why each renderer before it does not work here.
    """

    renderer: RendererName
    confinement: Confinement

    def __init__(self, config: ServerConfig, monitor: Monitoring | None = None, launch: Launch = WorkerProcess.launch):
        """`launch` starts each worker, by default as a process of this machine."""
        self.tried: dict[str, str] = {}
        self._config, self._monitor, self._launch = config, monitor or Monitoring(), launch
        self.workers = SceneWorkers(config, self._monitor, launch)
        self._verdicts = Verdicts()
        self._jobs = BackgroundTasks()

    async def start(self) -> None:
        """Choose the renderer and start the workers.

        Raises:
            RendererUnavailable: no renderer works here, or not the configured one; with the reason of each.
        """
        self.renderer, worker = await launch_first(self._config, self.tried, self._launch)
        self.confinement = worker.confinement
        if self.confinement.reason:
            logger.warning("scene workers are not confined as on Linux with seccomp: %s", self.confinement.reason)
        self.workers.start(self.renderer, worker)

    @property
    def pids(self) -> frozenset[int]:
        """The process ids of the workers on this machine."""
        return frozenset(worker.pid for worker in self.workers.all if worker.pid is not None)

    async def __aenter__(self) -> "ScenePool":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Refuse requests that wait, end every worker, and leave nothing behind."""
        await self.workers.stop()
        await self._jobs.wait()
        await self.workers.end()

    async def render(self, scene: Scene, request: RenderRequest) -> RenderReply:
        """Return the images of a request; if it is cancelled, the worker still finishes, within its time.

        Raises:
            SceneError: or a child of it, for any failure of the scene.
            UnknownName: the scene has no such camera or keyframe.
            Overloaded: more than `max_queue` requests wait.
            Unavailable: the pool is closed, no worker can be started, or two were killed from outside.
        """
        reply = await self._reply(scene, request)
        assert isinstance(reply, RenderReply)
        return reply

    async def roll_out(self, scene: Scene, request: RolloutRequest) -> RolloutReply:
        """Continue a simulation, in any worker: its complete state is in the request and in the reply.

        Raises:
            SceneError, UnknownName, Overloaded, Unavailable: as `render`; also for robots, bodies and joints.
        """
        reply = await self._reply(scene, request)
        assert isinstance(reply, RolloutReply)
        return reply

    async def export(self, scene: Scene, request: GltfRequest) -> GltfReply:
        """Return a scene as a glTF file.

        Raises:
            SceneError, UnknownName, Overloaded, Unavailable: as `render`.
            SceneRefused: the file would be too large.
        """
        reply = await self._reply(scene, request)
        assert isinstance(reply, GltfReply)
        return reply

    async def _reply(self, scene: Scene, request: JobRequest) -> JobReply:
        # Large scenes are hashed off the loop: 30 MB of meshes take 20 ms.
        key = scene.key if scene.num_bytes < SMALL_SCENE_BYTES else await asyncio.to_thread(lambda: scene.key)
        client = current_client.get()
        self._verdicts.check(client, key)
        deaths: list[WorkerDied] = []
        try:
            return await self._run(SceneJob(key=key, scene=scene, request=request), deaths)
        except (SceneCrashed, SceneTimeout) as error:
            self._verdicts.note(client, key, error, num_workers=max(1, len(deaths)))
            raise

    async def _run(self, job: SceneJob, deaths: list[WorkerDied]) -> JobReply:
        """Run a job, and once more in another worker if the first is lost: the request holds all that it needs."""
        while len(deaths) < MAX_WORKERS:
            worker = await self.workers.acquire(WorkerRequest(key=job.key, is_retry=bool(deaths)))
            task = self._jobs.start(self._run_in(worker, job))
            # Not `shield`: since Python 3.14 it logs an error if the client is gone.
            await asyncio.wait([task])
            try:
                return task.result()
            except WorkerDied as death:
                logger.warning("scene=%s a worker was lost: %s", job.key[:16], death)
                deaths.append(death)
                job = replace(job, alone=death.cause == "memory")
        raise _error_of(deaths)

    async def _run_in(self, worker: SceneWorker, job: SceneJob) -> JobReply:
        """Run a job in a worker within its time, and release or replace the worker."""
        has_cached, started, reason = job.key in worker.cached, time.perf_counter(), "worn"
        job = replace(job, scene=None if has_cached else job.scene)
        usable = False
        try:
            reply = await within(self._config.scene_timeout_s, worker.run(job))
            usable = not reply.must_restart
        except asyncio.TimeoutError:
            reason = "timeout"
            raise self._timeout() from None
        except WorkerDied as death:
            reason = restart_reason(death.cause)
            if self.workers.is_closing:
                raise stopping() from death
            if death.cause == "processor":
                raise self._timeout() from death
            raise
        finally:
            seconds = time.perf_counter() - started
            self._monitor.metrics.worker_job(seconds, has_cached=has_cached)
            if usable:
                self.workers.release(worker)
            else:
                self.workers.replace(worker, reason)
        outcome = _outcome(reply, job, worker)
        cost = outcome.cost
        stages_ms = {"compile": cost.compile_ms, "physics": cost.physics_ms, "render": cost.render_ms}
        self._monitor.scene_job(seconds, stages_ms, has_cached=has_cached)
        return outcome

    def _timeout(self) -> SceneTimeout:
        return SceneTimeout(
            f"the scene took more than {self._config.scene_timeout_s:g} s to compile and render",
            hint="make it smaller: fewer elements, faces, contacts",
        )


@dataclass(frozen=True, kw_only=True)
class _Verdict:
    error: SceneError
    num_workers: int
    until: float


class Verdicts:
    """The scenes that cost workers, for a while; by client too, so that nobody gets another's scene refused."""

    def __init__(self):
        self._verdicts: TTLCache[tuple[str, str], _Verdict, float] = TTLCache(MAX_VERDICTS, EXPIRY_S, time.monotonic)

    def check(self, client: str, key: str) -> None:
        """Refuse a scene that cost too many workers.

        Raises:
            SceneError: the error of its last attempt.
        """
        verdict = self._verdicts.get((client, key))
        if verdict is None or verdict.num_workers < MAX_WORKERS:
            return
        error, left_s = verdict.error, verdict.until - time.monotonic()
        hint = f"{error.hint}; it has cost {verdict.num_workers} workers and is not tried again for {left_s:.0f} s"
        raise type(error)(error.message, hint=hint)

    def note(self, client: str, key: str, error: SceneError, num_workers: int) -> None:
        """Add the workers that a scene has cost to those that it cost before."""
        before = self._verdicts.get((client, key))
        if before is not None:
            num_workers += before.num_workers
        verdict = _Verdict(error=error, num_workers=num_workers, until=time.monotonic() + EXPIRY_S)
        self._verdicts[client, key] = verdict


def _outcome(reply: WorkerReply, job: SceneJob, worker: SceneWorker) -> JobReply:
    """Return the reply to a job, or raise its error."""
    if isinstance(reply.outcome, VLAError):
        raise reply.outcome
    cost = reply.outcome.cost
    logger.debug(
        "scene=%s worker=%s compile_ms=%.1f physics_ms=%.1f render_ms=%.1f memory_mb=%.1f",
        job.key[:16],
        worker.name,
        cost.compile_ms,
        cost.physics_ms,
        cost.render_ms,
        cost.num_bytes / 2**20,
    )
    return reply.outcome


def _error_of(deaths: list[WorkerDied]) -> VLAError:
    """Return the error of a job that cost several workers, by the causes of their deaths."""
    causes = ", and ".join(str(death) for death in deaths)
    if any(death.cause == "outside" for death in deaths):
        return Unavailable(
            f"the workers of this request were lost: {causes}",
            hint="the scene is not to blame; send it again. The kernel's log says whether the machine lacks memory",
        )
    if deaths[-1].cause == "memory":
        return SceneTooLarge(
            f"the scene needs more memory than allowed: {causes}",
            hint="make it smaller; VLA_SCENE_MEMORY_MB raises the limit",
        )
    return SceneCrashed(f"the scene could not be rendered: {causes}", hint="check the scene, which may be malformed")

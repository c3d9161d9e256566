"""ScenePool: scenes in, pictures and simulations out, through worker processes that a scene may kill.

A worker is busy, idle, or being replaced; whoever waits for one gets it, an error, or is cancelled. A job whose worker
is lost is done once more by another. A worker is one client's, with whom it shares scenes that nobody else has; only
the bundled scenes, and one scene that several have, are compiled for all in one process. So there is always a worker,
or one that is being started, that nobody has had yet: for the next client, and for the next loss.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

from vla_server_base.config import ServerConfig
from vla_server_base.errors import (
    RendererUnavailable,
    SceneCrashed,
    SceneTimeout,
    SceneTooLarge,
    Unavailable,
    VLAError,
)
from vla_server_base.request_context import current_client
from vla_server_base.scenes.library import bundled_keys
from vla_server_base.scenes.machine_memory import machine_memory_mb
from vla_server_base.scenes.messages import (
    Confinement,
    Job,
    RendererName,
    RenderQuality,
    RenderReply,
    RenderRequest,
    RolloutReply,
    RolloutRequest,
    Scene,
    WorkerSettings,
)
from vla_server_base.scenes.verdicts import MOST_WORKERS, Verdicts
from vla_server_base.scenes.waiting import Place, WaitingLine
from vla_server_base.scenes.worker_process import WorkerDied, WorkerProcess

logger = logging.getLogger(__name__)

AUTO: tuple[RendererName, ...] = ("egl", "osmesa", "raycast")
SMALL_SCENE_BYTES = 1_000_000
RETRY_S = 1.0
"""Between attempts to start a worker where one could not be started."""


class ScenePool:
    """Renders scenes in processes of their own.

    `renderer` is the one in use, once started, and `confinement` what the kernel keeps from the workers;
    `tried` says of each renderer that was tried before it why it does not work here.
    """

    renderer: RendererName
    confinement: Confinement

    def __init__(self, config: ServerConfig):
        self.tried: dict[str, str] = {}
        self._config = config
        self._workers: set[WorkerProcess] = set()
        self._num_launching = self._num_starting = 0
        # The one that has been idle for longest comes first.
        self._idle: list[WorkerProcess] = []
        self._busy: dict[WorkerProcess, str] = {}
        """Workers at work, and for which client."""
        self._waiting = WaitingLine(config.max_queue)
        self._verdicts = Verdicts()
        # Jobs and the ends of workers, which finish by themselves; launches and watches, which may not.
        self._finishing: set[asyncio.Task] = set()
        self._tending: set[asyncio.Task] = set()
        self._closing = False

    async def start(self) -> None:
        """Find the renderer and start the workers.

        Raises:
            RendererUnavailable: none works here, or not the one that was asked for; with each one's reason.
        """
        worker = await self._first_that_works()
        self.confinement = worker.confinement
        if self.confinement.reason:
            logger.warning("scene workers are not confined as on Linux with seccomp: %s", self.confinement.reason)
        self._admit(worker)

    async def _first_that_works(self) -> WorkerProcess:
        for name in AUTO if self._config.renderer == "auto" else (self._config.renderer,):
            try:
                worker = await WorkerProcess.launch(self._settings(name))
            except RendererUnavailable as error:
                self.tried[name] = error.message
                continue
            self.renderer = name
            return worker
        raise RendererUnavailable(
            "; ".join(self.tried.values()),
            hint="VLA_RENDERER=raycast needs no system library; EGL does (Debian: libegl1 libgl1)",
        )

    def _settings(self, renderer: RendererName) -> WorkerSettings:
        return WorkerSettings(
            renderer=renderer,
            quality=RenderQuality(
                shadows=self._config.scene_shadows,
                reflections=self._config.scene_reflections,
                multisampling=self._config.scene_multisampling,
            ),
            timeout_s=self._config.scene_timeout_s,
            # Less where all that may be busy at once would take more than there is.
            memory_mb=min(self._config.scene_memory_mb, machine_memory_mb() // (self._config.scene_workers + 1)),
            max_scenes=self._config.scene_worker_max_scenes,
            max_jobs=self._config.scene_worker_max_jobs,
            geom_groups=tuple(int(group) for group in self._config.scene_geom_groups.split()) or None,
            confinement_required=self._config.scene_confinement == "required",
        )

    @property
    def pids(self) -> frozenset[int]:
        """The process ids of the workers there are."""
        return frozenset(worker.pid for worker in self._workers)

    async def __aenter__(self) -> "ScenePool":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def render(self, scene: Scene, request: RenderRequest) -> RenderReply:
        """Return the request's pictures; cancelling it leaves the worker to finish, within its time.

        Raises:
            SceneError: and its children, whatever the scene does.
            UnknownName: a camera or keyframe that the scene has not.
            Overloaded: more is waiting than `max_queue`.
            Unavailable: the pool is closed, no worker can be started, or two were ended over this from outside.
        """
        reply = await self._answer(scene, request)
        assert isinstance(reply, RenderReply)
        return reply

    async def roll_out(self, scene: Scene, request: RolloutRequest) -> RolloutReply:
        """Go on with a simulation, in any worker: all that it is comes with the request and leaves with the reply.

        Raises:
            SceneError, UnknownName, Overloaded, Unavailable: as `render`; also for robots, bodies and joints.
        """
        reply = await self._answer(scene, request)
        assert isinstance(reply, RolloutReply)
        return reply

    async def _answer(self, scene: Scene, request: RenderRequest | RolloutRequest) -> RenderReply | RolloutReply:
        # Off the loop where it is large: hashing 30 MB of meshes takes 20 ms.
        key = scene.key if scene.num_bytes < SMALL_SCENE_BYTES else await asyncio.to_thread(lambda: scene.key)
        client = current_client.get()
        self._verdicts.check(client, key)
        deaths: list[WorkerDied] = []
        try:
            return await self._have_done(Job(key=key, scene=scene, request=request), client, deaths)
        except (SceneCrashed, SceneTimeout) as error:
            self._verdicts.note(client, key, error, num_workers=max(1, len(deaths)))
            raise

    async def _have_done(self, job: Job, client: str, deaths: list[WorkerDied]) -> RenderReply | RolloutReply:
        """Have a job done, once more by another worker where the first is lost: all of it travels with the request."""
        while len(deaths) < MOST_WORKERS:
            worker = await self._take(Place(client=client, key=job.key, again=bool(deaths)))
            use = self._start_task(self._finishing, self._use(worker, job))
            # Not `shield`, which from Python 3.14 on logs as an error how it ended for a client that is gone.
            await asyncio.wait([use])
            try:
                return use.result()
            except WorkerDied as death:
                logger.warning("scene=%s a worker was lost: %s", job.key[:16], death)
                deaths.append(death)
                job = replace(job, alone=death.cause == "memory")
        raise self._all_lost(deaths)

    def _all_lost(self, deaths: list[WorkerDied]) -> VLAError:
        """Say whose fault it is that each worker died that one job was given to."""
        said = ", and ".join(str(death) for death in deaths)
        if any(death.cause == "outside" for death in deaths):
            return Unavailable(
                f"the workers that this request was given to were lost: {said}",
                hint="the scene is not to blame; send it again. The kernel's log says whether the machine lacks memory",
            )
        if deaths[-1].cause == "memory":
            return SceneTooLarge(
                f"the scene needs more memory than it may have: {said}",
                hint="make it smaller; VLA_SCENE_MEMORY_MB raises the limit",
            )
        return SceneCrashed(f"the scene could not be drawn: {said}", hint="it may be malformed")

    async def close(self) -> None:
        """Answer whoever waits, end every worker, and leave nothing behind."""
        self._closing = True
        for place in self._waiting.everyone():
            self._waiting.refuse(place, Unavailable("the server is stopping"))
        for worker in self._workers:
            worker.kill()
        for task in self._tending:
            task.cancel()
        await asyncio.gather(*self._tending, return_exceptions=True)
        while self._finishing:
            # Not `gather`, which from Python 3.12 on lets nobody else run where all are done: none would ever leave.
            await asyncio.wait(self._finishing)
        await asyncio.gather(*(worker.end() for worker in self._workers))
        self._workers.clear()
        self._idle.clear()
        self._busy.clear()

    async def _take(self, place: Place) -> WorkerProcess:
        """Return an idle worker, now busy; one that holds the scene if there is one."""
        if self._closing:
            raise Unavailable("the server is stopping")
        if not self._serve(place):
            self._waiting.join(place)
        self._launch_what_lacks()
        try:
            return await place.worker
        except asyncio.CancelledError:
            if self._waiting.leave(place):
                self._hand_out()
            elif not place.worker.cancelled() and place.worker.exception() is None:
                self._free(place.worker.result())
            raise

    def _hand_out(self) -> None:
        """Give idle workers to those who wait, for as long as one suits anybody."""
        while any(self._serve(place) for place in self._waiting.in_turn()):
            pass
        self._launch_what_lacks()

    def _serve(self, place: Place) -> bool:
        if place.worker.done() or not self._may_have_one(place.client):
            return False
        suitable = [worker for worker in self._idle if _may_share(worker, place)]
        if not suitable:
            return False
        worker = min(
            suitable, key=lambda worker: (place.key not in worker.held, self._is_spare(worker), len(worker.held))
        )
        self._idle.remove(worker)
        self._busy[worker] = place.client
        worker.compiled.add(place.key)
        worker.clients.add(place.client)
        self._waiting.serve(place)
        place.worker.set_result(worker)
        return True

    def _may_have_one(self, client: str) -> bool:
        """Whether fewer are busy than may be; one more is for a client that has none, whatever the others take."""
        limit = self._config.scene_workers + (client not in self._busy.values() and bool(self._busy))
        return len(self._busy) < limit

    def _is_spare(self, worker: WorkerProcess) -> bool:
        """Whether it is the last one that nobody has had yet."""
        return not worker.clients and sum(not other.clients for other in self._idle) == 1

    def _free(self, worker: WorkerProcess) -> None:
        self._busy.pop(worker, None)
        self._idle.append(worker)
        self._hand_out()

    async def _use(self, worker: WorkerProcess, job: Job) -> RenderReply | RolloutReply:
        """Have a worker do one job within its time, and free or replace it."""
        job = replace(job, scene=None if job.key in worker.held else job.scene)
        usable = False
        try:
            answer = await asyncio.wait_for(worker.ask(job), self._config.scene_timeout_s)
            usable = not answer.spent
        except asyncio.TimeoutError:
            raise self._too_slow() from None
        except WorkerDied as death:
            if self._closing:
                raise Unavailable("the server is stopping") from death
            if death.cause == "processor":
                raise self._too_slow() from death
            raise
        finally:
            if usable:
                self._free(worker)
            else:
                self._replace(worker)
        if isinstance(answer.outcome, VLAError):
            raise answer.outcome
        cost = answer.outcome.cost
        logger.debug(
            "scene=%s worker=%s compile_ms=%.1f physics_ms=%.1f render_ms=%.1f memory_mb=%.1f",
            job.key[:16],
            worker.pid,
            cost.compile_ms,
            cost.physics_ms,
            cost.render_ms,
            cost.num_bytes / 2**20,
        )
        return answer.outcome

    def _too_slow(self) -> SceneTimeout:
        return SceneTimeout(
            f"the scene took more than {self._config.scene_timeout_s:g} s to compile and draw",
            hint="make it smaller: fewer elements, faces, contacts",
        )

    def _replace(self, worker: WorkerProcess) -> None:
        self._remove(worker)
        # One fewer is busy, so the spare may be.
        self._hand_out()

    def _remove(self, worker: WorkerProcess) -> None:
        self._workers.discard(worker)
        self._busy.pop(worker, None)
        worker.kill()
        self._start_task(self._finishing, worker.end())

    def _launch_what_lacks(self) -> None:
        """Start workers until there are one more than may be busy, and one that nobody has had yet.

        Where there are as many as may be, the latter only for who waits for it: it takes another's place.
        """
        if self._closing:
            return
        num_lacking = self._config.scene_workers + 1 - len(self._workers) - self._num_launching
        if not self._num_launching and all(worker.clients for worker in self._idle):
            num_lacking = max(num_lacking, int(len(self._workers) < self._most_workers or any(self._without_worker())))
        for _ in range(num_lacking):
            self._num_launching += 1
            self._start_task(self._tending, self._launch())

    @property
    def _most_workers(self) -> int:
        """How many there may be: as configured, or those that may be busy, one for who has none, and one to come."""
        return max(self._config.scene_processes, self._config.scene_workers + 2)

    def _without_worker(self) -> Iterator[Place]:
        """Yield who waits in vain: there is no worker for them, nor will be when those that are busy are free."""
        for place in self._waiting.everyone():
            if not any(_may_share(worker, place) for worker in self._workers):
                yield place

    async def _launch(self) -> None:
        """Add a worker; try again until it succeeds, and let nobody wait for one while there is none."""
        while True:
            self._num_starting += 1
            try:
                worker = await WorkerProcess.launch(self._settings(self.renderer))
                break
            except RendererUnavailable as error:
                logger.error("cannot start a scene worker: %s", error)
                # Another that is being started may do: this one may have been killed.
                if self._num_starting == 1:
                    for place in self._without_worker():
                        self._waiting.refuse(place, Unavailable("no process can be started to draw scenes"))
            finally:
                self._num_starting -= 1
            await asyncio.sleep(RETRY_S)
        self._num_launching -= 1
        self._admit(worker)

    def _admit(self, worker: WorkerProcess) -> None:
        self._workers.add(worker)
        self._start_task(self._tending, self._watch(worker))
        self._free(worker)
        had = [worker for worker in self._idle if worker.clients]
        for longest_idle in had[: max(0, len(self._workers) - self._most_workers)]:
            self._idle.remove(longest_idle)
            self._remove(longest_idle)

    async def _watch(self, worker: WorkerProcess) -> None:
        """Replace a worker that ends while it is idle; while it is busy, its job does."""
        returncode = await worker.ended()
        if worker in self._idle and not self._closing:
            logger.warning("an idle scene worker ended with status %s", returncode)
            self._idle.remove(worker)
            self._replace(worker)

    @staticmethod
    def _start_task(tasks: set[asyncio.Task], work: Coroutine[Any, Any, Any]) -> asyncio.Task:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(_log_surprise)
        return task


def _may_share(worker: WorkerProcess, place: Place) -> bool:
    """Whether what a worker compiled before, and for whom, lets it take this job.

    A scene that was compiled in a process may still read, or write, all there is in it: another client's scenes,
    states and pictures.
    """
    return (
        worker.clients <= {place.client}
        or worker.compiled <= {place.key}
        or worker.compiled | {place.key} <= bundled_keys()
    )


def _log_surprise(task: asyncio.Task) -> None:
    """Log what is our own fault; what a scene did is for its client, who may have gone."""
    error = None if task.cancelled() else task.exception()
    if error and not isinstance(error, VLAError | WorkerDied):
        logger.error("a task of the scene pool failed", exc_info=error)

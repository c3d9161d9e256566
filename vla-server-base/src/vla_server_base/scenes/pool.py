"""ScenePool: scenes in, pictures and simulations out, through worker processes that a scene may kill.

There is one worker more than may be busy at once, so that a lost one has its replacement ready. A worker
is busy, idle, or being replaced; whoever waits for one gets it, an error, or is cancelled.
"""

import asyncio
import logging
import signal
from collections import deque
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from vla_server_base.config import ServerConfig
from vla_server_base.errors import (
    Overloaded,
    RendererUnavailable,
    SceneCrashed,
    SceneTimeout,
    Unavailable,
    VLAError,
)
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
        self._num_starting = 0
        self._idle: list[WorkerProcess] = []
        self._waiting: deque[tuple[str, asyncio.Future[WorkerProcess]]] = deque()
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
        for _ in range(self._config.scene_workers):
            self._start_task(self._tending, self._launch())

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
            memory_mb=self._config.scene_memory_mb,
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
            Unavailable: the pool is closed, or no worker can be started.
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
        worker = await self._take(key)
        use = self._start_task(self._finishing, self._use(worker, key, scene, request))
        # Not `shield`, which from Python 3.14 on logs as an error how it ended for a client that is gone.
        await asyncio.wait([use])
        return use.result()

    async def close(self) -> None:
        """Answer whoever waits, end every worker, and leave nothing behind."""
        self._closing = True
        self._refuse_waiting(Unavailable("the server is stopping"))
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

    async def _take(self, key: str) -> WorkerProcess:
        """Return an idle worker, now busy; one that holds the scene if there is one."""
        if self._closing:
            raise Unavailable("the server is stopping")
        if not self._waiting and self._may_hand_out():
            return self._pick(key)
        if len(self._waiting) >= self._config.max_queue:
            raise Overloaded(f"{len(self._waiting)} scenes are waiting to be drawn", hint="try again in a second")
        place = (key, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            return await place[1]
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            elif not place[1].cancelled() and place[1].exception() is None:
                self._free(place[1].result())
            raise

    def _may_hand_out(self) -> bool:
        num_busy = len(self._workers) - len(self._idle)
        return bool(self._idle) and num_busy < max(1, self._config.scene_workers)

    def _pick(self, key: str) -> WorkerProcess:
        worker = min(self._idle, key=lambda worker: (key not in worker.held, len(worker.held)))
        self._idle.remove(worker)
        return worker

    def _free(self, worker: WorkerProcess) -> None:
        self._idle.append(worker)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._may_hand_out():
            key, future = self._waiting.popleft()
            if not future.done():
                future.set_result(self._pick(key))

    def _refuse_waiting(self, error: VLAError) -> None:
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()

    async def _use(
        self, worker: WorkerProcess, key: str, scene: Scene, request: RenderRequest | RolloutRequest
    ) -> RenderReply | RolloutReply:
        """Have a worker do one job within its time, and free or replace it."""
        job = Job(key=key, scene=None if key in worker.held else scene, request=request)
        usable = False
        try:
            answer = await asyncio.wait_for(worker.ask(job), self._config.scene_timeout_s)
            usable = not answer.spent
        except asyncio.TimeoutError:
            raise self._too_slow() from None
        except WorkerDied as death:
            raise self._death(death) from death
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
            key[:16],
            worker.pid,
            cost.compile_ms,
            cost.physics_ms,
            cost.render_ms,
            cost.num_bytes / 2**20,
        )
        return answer.outcome

    def _death(self, death: WorkerDied) -> VLAError:
        if self._closing:
            return Unavailable("the server is stopping")
        if death.returncode == -signal.SIGXCPU:
            return self._too_slow()
        return SceneCrashed(f"the scene could not be drawn: {death}", hint="it may be malformed or too large")

    def _too_slow(self) -> SceneTimeout:
        return SceneTimeout(
            f"the scene took more than {self._config.scene_timeout_s:g} s to compile and draw",
            hint="make it smaller: fewer elements, faces, contacts",
        )

    def _replace(self, worker: WorkerProcess) -> None:
        self._workers.discard(worker)
        worker.kill()
        if not self._closing:
            self._start_task(self._tending, self._launch())
        self._start_task(self._finishing, worker.end())
        # One fewer is busy, so the spare may be.
        self._hand_out()

    async def _launch(self) -> None:
        """Add a worker; try again until it succeeds, and let nobody wait for one while there is none."""
        while True:
            self._num_starting += 1
            try:
                return self._admit(await WorkerProcess.launch(self._settings(self.renderer)))
            except RendererUnavailable as error:
                logger.error("cannot start a scene worker: %s", error)
                # Another that is being started may do: this one may have been killed.
                if not self._workers and self._num_starting == 1:
                    self._refuse_waiting(Unavailable("no process can be started to draw scenes"))
            finally:
                self._num_starting -= 1
            await asyncio.sleep(RETRY_S)

    def _admit(self, worker: WorkerProcess) -> None:
        self._workers.add(worker)
        self._start_task(self._tending, self._watch(worker))
        self._free(worker)

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


def _log_surprise(task: asyncio.Task) -> None:
    """Log what is our own fault; what a scene did is for its client, who may have gone."""
    error = None if task.cancelled() else task.exception()
    if error and not isinstance(error, VLAError):
        logger.error("a task of the scene pool failed", exc_info=error)

"""The scene workers: which are idle or busy, which request gets one, and how many there are.

A worker serves one client, with whom it shares scenes that nobody else has; only the bundled scenes, and one scene
that several clients have, are compiled for all of them in one process. So there is always a worker, or one that
starts, that nobody has used yet: for the next client, and for the next loss.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from vla_server_base.config import ServerConfig
from vla_server_base.errors import RendererUnavailable, Unavailable, VLAError
from vla_server_base.monitoring.monitor import Monitoring
from vla_server_base.scenes.messages import RendererName
from vla_server_base.scenes.scene_worker import Launch, SceneWorker
from vla_server_base.scenes.worker_death import WorkerDied
from vla_server_base.scenes.worker_launch import worker_settings
from vla_server_base.scenes.worker_queue import WorkerQueue, WorkerRequest

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S = 1.0
"""Between attempts to start a worker after one could not be started."""


class SceneWorkers:
    """A worker is busy, idle, or being replaced; a request for one ends in a worker, an error, or is cancelled."""

    renderer: RendererName

    def __init__(self, config: ServerConfig, monitor: Monitoring, launch: Launch):
        self._config, self._monitor, self._launch_worker = config, monitor, launch
        self.all: set[SceneWorker] = set()
        self.idle: list[SceneWorker] = []  # the one that has been idle for longest comes first
        self.busy: dict[SceneWorker, str] = {}  # each with its client
        self.is_closing = False
        self._num_launching = self._num_starting = 0
        self._queue = WorkerQueue(config.max_queue)
        self._launches, self._endings = BackgroundTasks(), BackgroundTasks()

    def start(self, renderer: RendererName, worker: SceneWorker) -> None:
        """Begin with a first worker; more are launched as they are needed."""
        self.renderer = renderer
        self._admit(worker)

    async def acquire(self, request: WorkerRequest) -> SceneWorker:
        """Return an idle worker, which is now busy; one that has cached the scene if there is one.

        Raises:
            Overloaded: too many requests wait.
            Unavailable: the server stops, or no worker can be started.
        """
        if self.is_closing:
            raise stopping()
        if not self._serve(request):
            self._queue.put(request)
        self._launch_missing()
        try:
            return await request.worker
        except asyncio.CancelledError:
            if self._queue.remove(request):
                self._serve_waiting()
            elif not request.worker.cancelled() and request.worker.exception() is None:
                self.release(request.worker.result())
            raise

    @property
    def num_waiting(self) -> int:
        """How many requests wait for a worker."""
        return len(self._queue)

    def release(self, worker: SceneWorker) -> None:
        """Return a worker that is idle again."""
        self.busy.pop(worker, None)
        self.idle.append(worker)
        self._serve_waiting()

    def replace(self, worker: SceneWorker, reason: str) -> None:
        """End a worker that cannot be used again, and launch another one; `reason` is counted."""
        if not self.is_closing:
            self._monitor.metrics.worker_replaced(reason)
        self._end(worker)
        # One fewer is busy, so the spare one may be used.
        self._serve_waiting()

    async def stop(self) -> None:
        """Refuse all requests that wait, kill every worker, and launch none."""
        self.is_closing = True
        for request in self._queue:
            self._queue.refuse(request, stopping())
        for worker in self.all:
            worker.kill()
        await self._launches.cancel()

    async def end(self) -> None:
        """Wait until all workers have ended."""
        await self._endings.wait()
        await asyncio.gather(*(worker.end() for worker in self.all))
        self.all.clear()
        self.idle.clear()
        self.busy.clear()

    def _serve_waiting(self) -> None:
        """Give idle workers to requests that wait, as long as one is suitable for any of them."""
        while self._queue.pop(self._serve):
            pass
        self._launch_missing()

    def _serve(self, request: WorkerRequest) -> bool:
        """Give a suitable idle worker to a request; return False if it has to wait."""
        if request.worker.done() or not self._may_use_another(request.client):
            return False
        suitable = [worker for worker in self.idle if request.may_use(worker)]
        if not suitable:
            return False
        worker = min(
            suitable, key=lambda each: (request.key not in each.cached, self._is_spare(each), len(each.cached))
        )
        self.idle.remove(worker)
        self.busy[worker] = request.client
        worker.compiled.add(request.key)
        worker.clients.add(request.client)
        request.worker.set_result(worker)
        return True

    def _may_use_another(self, client: str) -> bool:
        """Return whether fewer are busy than may be; one more is for a client that uses none."""
        limit = self._config.scene_workers + (client not in self.busy.values() and bool(self.busy))
        return len(self.busy) < limit

    def _is_spare(self, worker: SceneWorker) -> bool:
        """Return whether it is the last one that nobody has used yet."""
        return not worker.clients and sum(not other.clients for other in self.idle) == 1

    def _launch_missing(self) -> None:
        """Launch workers until there is one more than may be busy, and one that nobody has used yet.

        If there are as many as may be, the unused one is only for requests that need it: it takes another's place.
        """
        if self.is_closing:
            return
        num_missing = self._config.scene_workers + 1 - len(self.all) - self._num_launching
        if not self._num_launching and all(worker.clients for worker in self.idle):
            num_missing = max(num_missing, int(len(self.all) < self._max_workers or bool(self._without_worker())))
        for _ in range(num_missing):
            self._num_launching += 1
            self._launches.start(self._launch())

    @property
    def _max_workers(self) -> int:
        """As configured, or those that may be busy, one for another client, and one that starts."""
        return max(self._config.scene_processes, self._config.scene_workers + 2)

    def _without_worker(self) -> list[WorkerRequest]:
        """Return the requests that no worker can serve, not even one that is busy now."""
        return [request for request in self._queue if not any(request.may_use(worker) for worker in self.all)]

    async def _launch(self) -> None:
        """Add a worker; retry until it succeeds, and refuse requests that need one while it fails."""
        while True:
            self._num_starting += 1
            try:
                worker = await self._launch_worker(worker_settings(self._config, self.renderer))
                break
            except RendererUnavailable as error:
                logger.error("cannot start a scene worker: %s", error)
                # Another launch may succeed: this worker may have been killed.
                if self._num_starting == 1:
                    self._refuse_without_worker()
            finally:
                self._num_starting -= 1
            await asyncio.sleep(RETRY_S)
        self._num_launching -= 1
        self._admit(worker)

    def _refuse_without_worker(self) -> None:
        for request in self._without_worker():
            error = Unavailable("no process can be started to render scenes", hint="send it again; see the log")
            self._queue.refuse(request, error)

    def _admit(self, worker: SceneWorker) -> None:
        self.all.add(worker)
        self._launches.start(self._watch(worker))
        self.release(worker)
        used = [worker for worker in self.idle if worker.clients]
        for longest_idle in used[: max(0, len(self.all) - self._max_workers)]:
            self.idle.remove(longest_idle)
            self._end(longest_idle)

    async def _watch(self, worker: SceneWorker) -> None:
        """Replace a worker that ends while it is idle; while it is busy, its job does."""
        returncode = await worker.ended()
        if worker in self.idle and not self.is_closing:
            logger.warning("an idle scene worker ended with status %s", returncode)
            self.idle.remove(worker)
            self.replace(worker, "killed")

    def _end(self, worker: SceneWorker) -> None:
        self.all.discard(worker)
        self.busy.pop(worker, None)
        worker.kill()
        self._endings.start(worker.end())


def stopping() -> Unavailable:
    """Return the error of requests that come while the server stops."""
    return Unavailable("the server is shutting down", hint="send again to another server, or after the restart")


class BackgroundTasks:
    """Tasks that nobody awaits at once: kept until they are done, their failures logged."""

    def __init__(self):
        self._tasks: set[asyncio.Task[Any]] = set()

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run a coroutine as a task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_failure)
        return task

    async def cancel(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait(self) -> None:
        """Wait until all tasks are done."""
        while self._tasks:
            # Not `gather`: since Python 3.12 it never yields to the loop if all are done, so that none would be
            # discarded.
            await asyncio.wait(self._tasks)


def _log_failure(task: "asyncio.Task[Any]") -> None:
    """Log failures of the server; errors of a scene are for its client, who may be gone."""
    error = None if task.cancelled() else task.exception()
    if error and not isinstance(error, VLAError | WorkerDied):
        logger.error("a task of the scene pool failed", exc_info=error)

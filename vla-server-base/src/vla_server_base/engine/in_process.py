"""InProcessEngine: the policy loads and runs in this process, on its device thread."""

import asyncio
import gc
import hashlib
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
from cachetools import LRUCache, cached

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicyInput, PolicyRequest, PolicySpec, Task
from vla_server_base.engine.batches import Job, RequestQueue
from vla_server_base.engine.device_thread import DeviceThread
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.loading import EngineStatus, shutting_down
from vla_server_base.engine.prefetch import Prefetch
from vla_server_base.errors import Unavailable
from vla_server_base.fairness.precedence import Precedence
from vla_server_base.fairness.shared_device import SharedDevice
from vla_server_base.fairness.threads import FairThreads, num_threads_per_client
from vla_server_base.monitoring.cache_lookups import CacheLookups
from vla_server_base.monitoring.monitor import Monitoring

_NUM_PREPROCESSORS = 8
# A control loop sends the same instruction at every step.
_NUM_TASKS = 256


class InProcessEngine(Engine):
    """Takes requests from the event loop to the device thread and back, in batches of those that wait."""

    def __init__(
        self,
        adapter: VLAModelAdapter,
        config: ServerConfig,
        model_id: str,
        *,
        name: str | None = None,
        check_spec: Callable[[PolicySpec], None] = lambda _spec: None,
        shared_device: SharedDevice | None = None,
        is_later: bool = False,
        monitor: Monitoring | None = None,
        precedence: Precedence | None = None,
        queue: RequestQueue | None = None,
    ):
        """`check_spec` raises a VLAError where the loaded policy does not fit the server's configuration.

        Engines of one device share `shared_device`. One that `is_later` loads beside another that serves: it counts as
        loaded once everything is compiled.
        """
        super().__init__(adapter, config, model_id, name=name, monitor=monitor, precedence=precedence, queue=queue)
        self._shared = shared_device or SharedDevice()
        self._shared.join(self._queue)
        self._device = DeviceThread(
            adapter, config, model_id, self._queue, check_spec, self.monitor, self._shared, is_later=is_later
        )
        self._preprocessors = FairThreads(
            _NUM_PREPROCESSORS, "vla-preprocess", num_threads_per_client(), precedence=precedence
        )
        remember = cached(LRUCache(_NUM_TASKS), key=_content, lock=threading.Lock(), info=True)
        self._preprocess_task = remember(adapter.preprocess_instruction)

    @property
    def status(self) -> EngineStatus:
        return self._device.status

    @property
    def _known_spec(self) -> PolicySpec | None:
        return self._device.spec

    @property
    def load(self) -> dict[str, float]:
        """How much is asked of the device, see `EngineLoad`."""
        return self._queue.load

    def give_way(self, gives_way: bool) -> None:
        self._shared.leave(self._queue)
        if not gives_way:
            self._shared.join(self._queue)

    def is_device_free_for(self, seconds: float) -> bool:
        return self._shared.is_free_for(seconds)

    @property
    def cache_lookups(self) -> Mapping[str, CacheLookups]:
        tasks = self._preprocess_task.cache_info()
        return {"task": CacheLookups(hits=tasks.hits, misses=tasks.misses), **super().cache_lookups}

    def start(self) -> None:
        gc.freeze()  # imported modules stay: the search for garbage while the model is loaded skips them
        self._device.thread.start()

    async def loaded(self) -> PolicySpec:
        await asyncio.wrap_future(self._device.load_ended)
        if self.status.state == "loading":
            raise shutting_down()
        return self.spec

    def prefetch(self, request: PolicyRequest) -> Prefetch:
        prefetch = Prefetch()
        if self.status.state == "loaded" and not self._queue.is_closing:
            self._preprocessors.submit(self._preprocess_prefetch, prefetch, request)
        return prefetch

    async def close(self, why: Callable[[], Unavailable] | None = None) -> None:
        self._queue.close()
        self._queue.refuse_all(why or shutting_down)
        self._shared.leave(self._queue)
        self._preprocessors.shutdown(wait=False)
        await asyncio.to_thread(self._device.join)

    def _submit(self, job: Job, request: PolicyRequest) -> None:
        self._shared.note_arrival(self._queue)
        self._preprocessors.submit(self._preprocess_job, job, request)

    def _preprocess_job(self, job: Job, request: PolicyRequest) -> None:
        """Preprocess a request and hand it to the device directly: on the event loop it might wait."""
        if not self._queue.wants(job):
            return
        started = time.perf_counter()
        try:
            policy_input = self._preprocess(request)
        except BaseException as error:
            if self._queue.remove(job):
                job.refuse(error)
        else:
            self.monitor.preprocessed(job.context, time.perf_counter() - started)
            self._queue.make_ready(job, policy_input)

    def _preprocess_prefetch(self, prefetch: Prefetch, request: PolicyRequest) -> None:
        prefetch.policy_input = self._preprocess(request)
        self._queue.prefetches.add(prefetch)

    def _preprocess(self, request: PolicyRequest) -> PolicyInput:
        return PolicyInput(
            observation=self._adapter.preprocess_observation(request.window, request.dataset),
            task=self._preprocess_task(request.task),
            seed=request.seed,
            step=request.step,
            num_samples=request.num_samples,
            dataset=request.dataset,
            previous=request.previous,
        )


def _content(task: Task) -> tuple:
    images = sorted(task.goal_images.items())
    goals = [(name, image.shape, hashlib.sha256(np.ascontiguousarray(image)).digest()) for name, image in images]
    return (task.instruction, *goals)

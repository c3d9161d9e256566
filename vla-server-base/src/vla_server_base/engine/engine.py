"""The engine: takes requests from the event loop to the device thread and back."""

import asyncio
import gc
import hashlib
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import numpy as np
from cachetools import LRUCache, cached
from jaxtyping import Float

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import Action, Observation, PolicyInput, PolicyRequest, PolicySpec, Task, Window
from vla_server_base.engine.batches import NOT_FINITE, Job, Prediction, RequestQueue
from vla_server_base.engine.device_thread import DeviceThread
from vla_server_base.engine.loading import EngineStatus, model_unavailable, shutting_down
from vla_server_base.engine.prefetch import Prefetch
from vla_server_base.errors import ImageError, NotFinite, Overloaded, Unavailable
from vla_server_base.fairness.claims import current_claim
from vla_server_base.fairness.precedence import Precedence
from vla_server_base.fairness.shared_device import SharedDevice
from vla_server_base.fairness.threads import FairThreads, num_threads_per_client
from vla_server_base.monitoring.cache_lookups import CacheLookups
from vla_server_base.monitoring.engine_monitor import EngineMonitor
from vla_server_base.monitoring.monitor import Monitoring
from vla_server_base.request_context import Priority, current_client
from vla_server_base.request_inputs import check_observation, check_task

_NUM_PREPROCESSORS = 8
# A control loop sends the same instruction at every step.
_NUM_TASKS = 256
_REFUSED_S, _LONGEST_REFUSED_S = 1.0, 10.0
# A refusal costs the server two milliseconds, so those of one client a twentieth of a processor.
_REFUSALS_PER_S = 25
_NUM_TIMES = 200


class Engine:
    """Takes requests from the event loop to the device and back, in batches of the waiting requests.

    At most `config.max_queue` requests wait, preprocessing included. A robot's is served before an evaluation's; the
    clients of a class take turns, and so do the sessions of a client. In a full queue an evaluation's request makes
    room for a robot's, and the client with the most for one with fewer. A request whose caller is cancelled leaves the
    queue at once.
    """

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
    ):
        """`check_spec` raises a VLAError where the loaded policy does not fit the server's configuration.

        `name` is the model's id, by default `model_id`. Engines of one device share `shared_device`, those of one
        server `precedence`. One that `is_later` loads beside another that serves: it counts as loaded once everything
        is compiled.
        """
        self.id, self.checkpoint = name or model_id, model_id
        self._adapter = adapter
        self.fit_image = adapter.fit_image
        self.monitor = EngineMonitor(monitor or Monitoring(), self.id)
        self._queue = RequestQueue(config.max_queue, config.max_queue_per_client, precedence)
        self._shared = shared_device or SharedDevice()
        self._shared.join(self._queue)
        self._device = DeviceThread(
            adapter, config, model_id, self._queue, check_spec, self.monitor, self._shared, is_later=is_later
        )
        self.num_users = 0
        """How many requests and episodes without a session hold this engine."""
        self.on_predicted: Callable[[PolicyRequest, Prediction], None] | None = None
        """What is called with each answered request, on the event loop."""
        self._preprocessors = FairThreads(
            _NUM_PREPROCESSORS, "vla-preprocess", num_threads_per_client(), precedence=precedence
        )
        remember = cached(LRUCache(_NUM_TASKS), key=_content, lock=threading.Lock(), info=True)
        self._preprocess_task = remember(adapter.preprocess_instruction)
        self._num_held_back: Counter[str] = Counter()
        self.predict_ms: deque[float] = deque(maxlen=_NUM_TIMES)
        """How long the last predictions took: preprocessing, waiting for the device, and on the device."""

    @property
    def status(self) -> EngineStatus:
        """Whether the policy is loading, loaded or broken."""
        return self._device.status

    @property
    def spec(self) -> PolicySpec:
        """What the loaded policy takes and gives, also while it is being warmed up.

        Raises:
            ModelUnavailable: while loading, or broken; with the reason.
        """
        if self._device.spec is None:
            raise model_unavailable(self._device.status)
        return self._device.spec

    @property
    def has_spec(self) -> bool:
        """Whether it is known what the policy takes and gives."""
        return self._device.spec is not None

    @property
    def answers(self) -> bool:
        """Whether the policy is loaded, and is not being unloaded."""
        return self.status.state == "loaded" and not self._queue.is_closing

    def give_way(self, gives_way: bool) -> None:
        """Have the policy count as one that runs only while the device is idle, as a shadow does, or no longer."""
        self._shared.leave(self._queue)
        if not gives_way:
            self._shared.join(self._queue)

    def is_device_free_for(self, seconds: float) -> bool:
        """Return whether no request of an urgent engine waits, and by the last ones' gaps none will for some time."""
        return self._shared.is_free_for(seconds)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the policy from being unloaded for lack of use within a `with` block."""
        self.num_users += 1
        try:
            yield
        finally:
            self.num_users -= 1

    @property
    def num_waiting(self) -> int:
        """How many requests wait for the device, preprocessing included."""
        return self._queue.num_waiting

    @property
    def num_waiting_by_class(self) -> Mapping[Priority, int]:
        """How many requests of each class wait for the device, preprocessing included."""
        return self._queue.num_waiting_by_class

    @property
    def cache_lookups(self) -> Mapping[str, CacheLookups]:
        """How often each cache of the engine and of the policy had what was looked up."""
        tasks = self._preprocess_task.cache_info()
        return {"task": CacheLookups(hits=tasks.hits, misses=tasks.misses), **self._adapter.cache_lookups()}

    def start(self) -> None:
        """Begin loading and warming up; returns at once."""
        gc.freeze()  # imported modules stay: the search for garbage while the model is loaded skips them
        self._device.thread.start()

    async def loaded(self) -> PolicySpec:
        """Wait until the policy is loaded, and return what it is.

        Raises:
            ModelUnavailable: it cannot be loaded; with the reason.
            Unavailable: the engine was closed first.
        """
        await asyncio.wrap_future(self._device.load_ended)
        if self.status.state == "loading":
            raise shutting_down()
        return self.spec

    async def predict(self, request: PolicyRequest) -> Prediction:
        """Run the policy on one request.

        Raises:
            ModelUnavailable: the policy is not loaded.
            ImageError: the window never shows the policy's first camera, or a step of it lacks a required one.
            InstructionError: the task says nothing, and the policy reads instructions.
            RequestError: a step lacks the proprio that the policy requires; see `preprocess_observation`, too.
            Overloaded: `config.max_queue` requests are waiting already, or too many of this client.
            DeadlinePassed: the request's deadline passed while it waited.
            Unavailable: the server is shutting down.
        """
        _check_inputs(request, self.spec)
        started = time.perf_counter()
        self._shared.note_arrival(self._queue)
        async with self.held_back():
            job = self._queue.admit()
        try:
            self._preprocessors.submit(self._preprocess_job, job, request)
            prediction = await asyncio.wrap_future(job.answer)
            self.predict_ms.append(1e3 * (time.perf_counter() - started))
            if self.on_predicted is not None:
                self.on_predicted(request, prediction)
            return prediction
        finally:
            self._queue.remove(job)

    def check_room(self) -> None:
        """Refuse the present task's request, before it is decoded, if the queue has no place for it; on any thread.

        Raises:
            Overloaded: as `predict` would.
        """
        self._queue.check_room(current_claim())

    @asynccontextmanager
    async def held_back(self) -> AsyncIterator[None]:
        """Hold a refusal back that is raised within the block, if its client has most of the queue.

        It would ask again at once, and keep the event loop from others. The more of a client's are held back, the
        longer.
        """
        try:
            yield
        except Overloaded:
            client = current_client.get()
            if self._queue.is_mostly_of(client):
                self._num_held_back[client] += 1
                try:
                    hold_s = max(_REFUSED_S, self._num_held_back[client] / _REFUSALS_PER_S)
                    await asyncio.sleep(min(_LONGEST_REFUSED_S, hold_s))
                finally:
                    self._num_held_back[client] -= 1
                    self._num_held_back += Counter()  # forget who has none
            raise

    def prefetch(self, request: PolicyRequest) -> Prefetch:
        """Have the device prepare, while no request waits, for one whose window goes on from this one.

        `seed` and `step` are those of the coming request. Returns at once; cancel the result once it is not wanted.
        """
        prefetch = Prefetch()
        if self.status.state == "loaded" and not self._queue.is_closing:
            self._preprocessors.submit(self._preprocess_prefetch, prefetch, request)
        return prefetch

    def unknown_words(self, task: Task) -> tuple[str, ...]:
        """Return the words of a task's instruction that the policy does not know."""
        return self._adapter.unknown_words(task.instruction) if task.instruction else ()

    def form_action(
        self, chunk: Float[np.ndarray, "horizon action_dim"], dataset: str | None, action_format: str
    ) -> Action:
        """Un-normalize a chunk and form its first action.

        Raises:
            UnknownName: a dataset or a format; with those that are available.
            NotFinite: a number of the action is not finite.
        """
        action = self._adapter.postprocess_action(chunk, dataset, action_format)
        if not (np.isfinite(action.action).all() and np.isfinite(action.actions).all()):
            raise NotFinite(NOT_FINITE, hint="send another observation, or choose another dataset")
        return action

    async def close(self, why: Callable[[], Unavailable] = shutting_down) -> None:
        """Answer all that wait with `Unavailable` and end the device thread, after what it runs now."""
        self._queue.close()
        self._queue.refuse_all(why)
        self._shared.leave(self._queue)
        self._preprocessors.shutdown(wait=False)
        await asyncio.to_thread(self._device.join)

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


def _check_inputs(request: PolicyRequest, spec: PolicySpec) -> None:
    """Refuse a request that lacks what the policy requires, however it came here.

    Raises:
        ImageError, RequestError, InstructionError: naming what is missing.
    """
    _check_shown(request.window, spec)
    for observation, is_real in zip(request.window.observations, request.window.timestep_pad_mask, strict=True):
        if is_real:
            check_observation(observation, spec)
    check_task(request.task, spec)


def _check_shown(window: Window, spec: PolicySpec) -> None:
    """Refuse a window without any image of the policy's first camera: its name is more likely wrong than missing.

    Raises:
        ImageError: it names the cameras that the window has.
    """
    first, shown = spec.camera_names[0], {name for step in window.observations for name in step.images}
    if first not in shown:
        raise ImageError(
            f"there is no image of the camera '{first}' in the last {spec.window} observations;"
            f" they show: {', '.join(sorted(shown)) or 'nothing'}",
            hint=f"send one of '{first}'; docs/clients.md has its names in messages, VLA_OBSERVATION_KEYS adds more",
        )


def pad_window(observations: Sequence[Observation], length: int) -> Window:
    """Return the window of a robot that has seen no more than these, oldest first: the first one fills it.

    Follows `HistoryWrapper` of octo-models/octo.
    """
    num_copies = length - len(observations)
    mask = np.arange(length) >= num_copies
    return Window(observations=(*[observations[0]] * num_copies, *observations), timestep_pad_mask=mask)

"""Engine: a policy that answers requests, in this process or elsewhere; its queue, and what it is."""

import abc
import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import numpy as np
from jaxtyping import Float, UInt8

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import Action, Image, Observation, PolicyRequest, PolicySpec, Task, Window
from vla_server_base.engine.batches import NOT_FINITE, Job, Prediction, RequestQueue
from vla_server_base.engine.loading import EngineStatus, model_unavailable
from vla_server_base.engine.prefetch import Prefetch
from vla_server_base.errors import ImageError, NotFinite, Overloaded, Unavailable
from vla_server_base.fairness.claims import current_claim
from vla_server_base.fairness.precedence import Precedence
from vla_server_base.monitoring.cache_lookups import CacheLookups
from vla_server_base.monitoring.engine_monitor import EngineMonitor
from vla_server_base.monitoring.monitor import Monitoring
from vla_server_base.request_context import Priority, current_client
from vla_server_base.request_inputs import check_observation, check_task

_REFUSED_S, _LONGEST_REFUSED_S = 1.0, 10.0
# A refusal costs the server two milliseconds, so those of one client a twentieth of a processor.
_REFUSALS_PER_S = 25
_NUM_TIMES = 200


class Engine(abc.ABC):
    """Takes requests from the event loop to a policy and back.

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
        monitor: Monitoring | None = None,
        precedence: Precedence | None = None,
        queue: RequestQueue | None = None,
    ):
        """`name` is the model's id, by default `model_id`. Engines of one server share `precedence`.

        A benchmark brings its own `queue`.
        """
        self.id, self.checkpoint = name or model_id, model_id
        self._adapter = adapter
        self.monitor = EngineMonitor(monitor or Monitoring(), self.id)
        self._queue = queue or RequestQueue(config.max_queue, config.max_queue_per_client, precedence)
        self.num_users = 0
        """How many requests and episodes without a session hold this engine."""
        self.on_predicted: Callable[[PolicyRequest, Prediction], None] | None = None
        """What is called with each answered request, on the event loop."""
        self._num_held_back: Counter[str] = Counter()
        self.predict_ms: deque[float] = deque(maxlen=_NUM_TIMES)
        """How long the last predictions took: preprocessing, waiting for the device, and on the device."""

    @property
    @abc.abstractmethod
    def status(self) -> EngineStatus:
        """Whether the policy is loading, loaded or broken."""

    @property
    @abc.abstractmethod
    def _known_spec(self) -> PolicySpec | None:
        """What the policy takes and gives; None before that is known."""

    @abc.abstractmethod
    def start(self) -> None:
        """Begin loading and warming up; returns at once."""

    @abc.abstractmethod
    async def loaded(self) -> PolicySpec:
        """Wait until the policy is loaded, and return what it is.

        Raises:
            ModelUnavailable: it cannot be loaded; with the reason.
            Unavailable: the engine was closed first.
        """

    @abc.abstractmethod
    def _submit(self, job: Job, request: PolicyRequest) -> None:
        """Have a request that has its place in the queue answered; returns at once."""

    @abc.abstractmethod
    def prefetch(self, request: PolicyRequest) -> Prefetch:
        """Have the device prepare, while no request waits, for one whose window goes on from this one.

        `seed` and `step` are those of the coming request. Returns at once; cancel the result once it is not wanted.
        """

    @abc.abstractmethod
    async def close(self, why: Callable[[], Unavailable] | None = None) -> None:
        """Answer all that wait with `why`, by default that the server shuts down, and end, after what runs now."""

    def give_way(self, gives_way: bool) -> None:
        """Have the policy count as one that runs only while the device is idle, as a shadow does, or no longer."""
        del gives_way

    def is_device_free_for(self, seconds: float) -> bool:
        """Return whether no request of an urgent engine waits, and by the last ones' gaps none will for some time."""
        del seconds
        return True

    @property
    def spec(self) -> PolicySpec:
        """What the loaded policy takes and gives, also while it is being warmed up.

        Raises:
            ModelUnavailable: while loading, or broken; with the reason.
        """
        spec = self._known_spec
        if spec is None:
            raise model_unavailable(self.status)
        return spec

    @property
    def has_spec(self) -> bool:
        """Whether it is known what the policy takes and gives."""
        return self._known_spec is not None

    @property
    def answers(self) -> bool:
        """Whether the policy is loaded, and is not being unloaded."""
        return self.status.state == "loaded" and not self._queue.is_closing

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
        return self._adapter.cache_lookups()

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
        async with self.held_back():
            job = self._queue.admit()
        try:
            self._submit(job, request)
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

    def fit_image(self, camera: str, image: Image) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """Return an image no larger than the policy works at; the answer is the same for either."""
        return self._adapter.fit_image(camera, image)

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

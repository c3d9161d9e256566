"""The engine: a queue, batches, and the one device thread on which the policy loads, compiles and runs."""

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from vla_server_base.config import ServerConfig
from vla_server_base.contract import (
    Action,
    Image,
    NormalizedChunks,
    PolicyInput,
    PolicySpec,
    Task,
    VLAModelAdapter,
    Window,
)
from vla_server_base.engine.task_cache import TaskCache
from vla_server_base.errors import (
    ImageError,
    ModelOutOfReach,
    ModelUnavailable,
    NotFinite,
    Overloaded,
    Unavailable,
    VLAError,
)
from vla_server_base.fairness.queue import FairQueue, Flow, current_flow, greediest_beside
from vla_server_base.fairness.threads import FairThreads
from vla_server_base.protocols.known_keys import check_own_keys
from vla_server_base.request_context import current_request_id

logger = logging.getLogger(__name__)

_NUM_PREPROCESSORS = 8
_MAX_BATCH = 64
_REFUSED_S = 1.0
# A load or a compilation cannot be interrupted; past this the daemon thread is left to the process's end.
_JOIN_TIMEOUT_S = 30.0
# A hub that does not answer is asked again after the first, twice the first, and so on.
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0
# What requests seldom need is compiled once nobody has asked for so long: a robot at 1 Hz and more is not held up.
QUIET_S = 1.0
_NOT_FINITE = "the policy answered with numbers that are not finite"


@dataclass(frozen=True, kw_only=True)
class EngineStatus:
    """Whether the policy answers; `reason` says why it does not."""

    state: Literal["loading", "loaded", "broken"]
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Normalized chunks for one request, how long it waited for the device, and how long the device took."""

    chunks: NormalizedChunks
    queue_ms: float
    infer_ms: float


@dataclass(eq=False)
class Anticipation:
    """What the device is to prepare while it is idle, for a request that is likely to come."""

    policy_input: PolicyInput | None = None
    pieces: Iterator[None] | None = None
    is_wanted: bool = True

    def cancel(self) -> None:
        """Leave the rest undone: the request has come, or will not come."""
        self.is_wanted = False


@dataclass(eq=False)
class _Job:
    """One request in the engine; it is being preprocessed until `policy_input` is set."""

    answer: "Future[Prediction]"
    request_id: str
    flow: Flow
    policy_input: PolicyInput | None = None
    ready_at: float = 0.0


class Engine:
    """Takes requests from the event loop to the device and back, in batches of whatever is waiting.

    At most `config.max_queue` requests wait, preprocessing included. Clients take turns, and the sessions of a client:
    where the queue is full, who has more in it than another makes room for that one. A request whose caller is
    cancelled leaves the queue at once.
    """

    def __init__(self, adapter: VLAModelAdapter, config: ServerConfig, model_id: str):
        self._adapter = adapter
        self._config = config
        self._model_id = model_id
        self._status = EngineStatus(state="loading", reason="the model is being loaded")
        self._spec: PolicySpec | None = None
        self._preprocess_task = TaskCache(adapter.preprocess_instruction)
        self._preprocessors = FairThreads(_NUM_PREPROCESSORS, "vla-preprocess")
        self._device_thread = threading.Thread(target=self._run, name="vla-device", daemon=True)
        self._rarer: Iterator[PolicyInput] | None = None
        self._changed = threading.Condition()  # guards the fields below
        self._last_asked = 0.0
        self._waiting: dict[_Job, None] = {}  # an ordered set: the last one came last
        self._ready: FairQueue[_Job] = FairQueue()  # and some that have left
        self._anticipated: list[Anticipation] = []
        self._closing = False

    @property
    def status(self) -> EngineStatus:
        """Whether the policy is loading, loaded or broken."""
        return self._status

    @property
    def spec(self) -> PolicySpec:
        """What the loaded policy takes and gives, also while it is being warmed up.

        Raises:
            ModelUnavailable: while loading, or broken; with the reason.
        """
        if self._spec is None:
            hint = "GET /health turns 200 once it is ready" if self._status.state == "loading" else None
            raise ModelUnavailable(self._status.reason or "the model is not loaded", hint=hint)
        return self._spec

    def start(self) -> None:
        """Begin loading and warming up; returns at once."""
        gc.freeze()  # what is imported stays, and is not to be looked through for garbage while the model is loaded
        self._device_thread.start()

    async def predict(
        self,
        window: Window,
        task: Task,
        seed: int,
        step: int = 0,
        num_samples: int = 1,
        dataset: str | None = None,
    ) -> Prediction:
        """Run the policy on one request, in the units of `dataset`, None the policy's default.

        Raises:
            ModelUnavailable: the policy is not loaded.
            ImageError: the window never shows the policy's first camera.
            RequestError: see `VLAModelAdapter.preprocess_observation`.
            Overloaded: `config.max_queue` requests are waiting already.
            Unavailable: the server is shutting down.
        """
        _check_shown(window, self.spec)
        try:
            job = self._admit()
        except Overloaded:
            if 2 * sum(job.flow == current_flow() for job in self._waiting) >= self._config.max_queue:
                # Who has the queue to himself would ask again at once, and again, and keep the event loop from others.
                await asyncio.sleep(_REFUSED_S)
            raise
        try:
            self._preprocessors.submit(self._bring, job, window, task, seed, step, num_samples, dataset)
            return await asyncio.wrap_future(job.answer)
        finally:
            self._forget(job)

    def unknown_words(self, task: Task) -> tuple[str, ...]:
        """Return the words of a task's instruction that the policy does not know."""
        return self._adapter.unknown_words(task.instruction) if task.instruction else ()

    def fit_image(self, camera: str, image: Image) -> UInt8[np.ndarray, "new_height new_width 3"]:
        """Return a picture as small as the policy's own; not for the event loop."""
        return self._adapter.fit_image(camera, image)

    def form_action(
        self, chunk: Float[np.ndarray, "horizon action_dim"], dataset: str | None, action_format: str
    ) -> Action:
        """Un-normalize a chunk and form its first action.

        Raises:
            UnknownName: a dataset or a format; with those that are available.
            NotFinite: there is a number in it that is none.
        """
        action = self._adapter.postprocess_action(chunk, dataset, action_format)
        if not (np.isfinite(action.action).all() and np.isfinite(action.actions).all()):
            raise NotFinite(_NOT_FINITE)
        return action

    def anticipate(self, window: Window, task: Task, seed: int, step: int, dataset: str | None = None) -> Anticipation:
        """Have the device prepare, while no request waits, for one whose window goes on from this one.

        `seed` and `step` are that request's. Returns at once; it is told when the preparation is not wanted any more.
        """
        anticipation = Anticipation()
        if self._status.state == "loaded" and not self._closing:
            self._preprocessors.submit(self._prepare, anticipation, window, task, seed, step, dataset)
        return anticipation

    async def close(self) -> None:
        """Answer all that wait with `Unavailable` and end the device thread, after what it runs now."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._refuse_waiting(Unavailable("the server is shutting down"))
        self._preprocessors.shutdown(wait=False)
        if self._device_thread.ident is not None:
            await asyncio.to_thread(self._device_thread.join, _JOIN_TIMEOUT_S)
            if self._device_thread.is_alive():
                logger.warning("the device thread did not end within %.0f s", _JOIN_TIMEOUT_S)

    def _refuse_waiting(self, error: VLAError) -> None:
        with self._changed:
            waiting = list(self._waiting)
            self._waiting.clear()
        for job in waiting:
            if job.answer.set_running_or_notify_cancel():
                job.answer.set_exception(error)

    # On the event loop.

    def _admit(self) -> _Job:
        with self._changed:
            _ = self.spec
            if self._closing:
                raise Unavailable("the server is shutting down")
            flow = current_flow()
            if len(self._waiting) >= self._config.max_queue:
                self._make_room(flow)
            job = _Job(answer=Future(), request_id=current_request_id.get(), flow=flow)
            self._waiting[job] = None
            self._last_asked = time.monotonic()
            return job

    def _make_room(self, flow: Flow) -> None:
        """Refuse the last request of who has most in the queue, if that is more than `flow` has.

        Raises:
            Overloaded: there is nobody who has more.
        """
        refusal = Overloaded(
            f"the queue for the device is full ({self._config.max_queue} waiting)",
            hint="send again later, or fewer at a time; VLA_MAX_QUEUE raises the limit",
        )
        greediest = greediest_beside(flow, [job.flow for job in self._waiting])
        if greediest is None:
            raise refusal
        last = next(job for job in reversed(self._waiting) if job.flow == greediest)
        del self._waiting[last]
        if last.answer.set_running_or_notify_cancel():
            last.answer.set_exception(refusal)

    def _forget(self, job: _Job) -> bool:
        """Take a request out of the queue; say whether it was in it, and so has no answer yet."""
        with self._changed:
            return self._waiting.pop(job, job) is None

    # On the preprocessing threads.

    def _bring(
        self,
        job: _Job,
        window: Window,
        task: Task,
        seed: int,
        step: int,
        num_samples: int,
        dataset: str | None,
    ) -> None:
        """Preprocess a request and hand it to the device: not by way of the event loop, where it might wait."""
        try:
            policy_input = self._preprocess(window, task, seed, step, dataset, num_samples)
        except BaseException as error:
            if self._forget(job) and job.answer.set_running_or_notify_cancel():
                job.answer.set_exception(error)
            return
        with self._changed:
            job.ready_at = time.perf_counter()
            job.policy_input = policy_input
            self._ready.put(job.flow, job)
            self._changed.notify_all()

    def _prepare(
        self, anticipation: Anticipation, window: Window, task: Task, seed: int, step: int, dataset: str | None
    ) -> None:
        anticipation.policy_input = self._preprocess(window, task, seed, step, dataset)
        with self._changed:
            # A device that is never idle takes none of them: what is not wanted any more must not pile up.
            self._anticipated.append(anticipation)
            self._leave_out_unwanted()
            self._changed.notify_all()

    def _preprocess(
        self, window: Window, task: Task, seed: int, step: int, dataset: str | None, num_samples: int = 1
    ) -> PolicyInput:
        return PolicyInput(
            observation=self._adapter.preprocess_observation(window, dataset),
            task=self._preprocess_task(task),
            seed=seed,
            step=step,
            num_samples=num_samples,
            dataset=dataset,
        )

    def _leave_out_unwanted(self) -> None:
        self._anticipated = [each for each in self._anticipated if each.is_wanted]

    # On the device thread.

    def _run(self) -> None:
        if not self._load():
            return
        while not self._closing:
            batch = self._next_batch()
            if batch:
                self._predict(batch)
            elif not self._prepare_a_piece():
                self._compile_rarer()

    def _load(self) -> bool:
        """Load and warm up, answering what comes meanwhile; say whether that went well."""
        started = time.perf_counter()
        try:
            self._load_model()
            self._status = EngineStatus(
                state="loading", reason="the model is being warmed up: requests are answered, at first slowly"
            )
            spec = self._adapter.spec
            check_own_keys(self._config, spec)
            self._spec = spec
            for policy_input in self._adapter.warm_up_inputs():
                if batch := self._take_ready():
                    self._predict(batch)
                if self._closing:
                    return False
                _check_warm(self._adapter.predict([policy_input]))
            self._rarer = iter(self._adapter.background_warm_up_inputs())
            self._last_asked = time.monotonic()  # who has waited for this asks first
        except VLAError as error:
            logger.error("model %s is not available: %s", self._model_id, error.as_sentence())
            self._give_up(error.as_sentence())
            return False
        except BaseException:
            logger.exception("model %s could not be loaded", self._model_id)
            self._give_up("the model could not be loaded, for a reason that only the server's log tells")
            return False
        # What is loaded stays: to look through it again and again for garbage would each time hold up a robot.
        gc.collect()
        gc.freeze()
        self._status = EngineStatus(state="loaded")
        logger.info("model=%s status=loaded seconds=%.1f", self._model_id, time.perf_counter() - started)
        return True

    def _load_model(self) -> None:
        """Load the model; where it is out of reach, again and again, ever more seldom.

        Raises:
            ModelUnavailable: it cannot be had, or not in `config.load_retry_s`.
        """
        deadline, wait_s = time.monotonic() + self._config.load_retry_s, _FIRST_RETRY_S
        while True:
            try:
                self._adapter.load_model(self._model_id, self._config.device, self._config.cache_dir)
                return
            except ModelOutOfReach as error:
                wait_s = min(wait_s, deadline - time.monotonic())
                if wait_s <= 0:
                    raise
                logger.warning("model %s: %s; trying again in %.0f s", self._model_id, error.as_sentence(), wait_s)
                next_try = datetime.now(timezone.utc) + timedelta(seconds=wait_s)
                reason = f"{error.as_sentence()}; the next try is at {next_try:%H:%M:%S} UTC"
                self._status = EngineStatus(state="loading", reason=reason)
                with self._changed:
                    if self._changed.wait_for(lambda: self._closing, wait_s):
                        raise
            wait_s = min(2 * wait_s, _LONGEST_RETRY_S)

    def _give_up(self, reason: str) -> None:
        self._status = EngineStatus(state="broken", reason=reason)
        with self._changed:  # whoever was let in before is refused below
            self._spec = None
        self._refuse_waiting(ModelUnavailable(reason))

    def _next_batch(self) -> list[_Job]:
        with self._changed:
            left_s = None if self._rarer is None else self._last_asked + QUIET_S - time.monotonic()
            self._changed.wait_for(lambda: self._closing or self._ready or self._anticipated, left_s)
        return self._take_ready()

    def _take_ready(self) -> list[_Job]:
        """Take what runs together next, of each flow in turn."""
        batch: list[_Job] = []
        with self._changed:
            while len(batch) < self._max_batch and (found := self._ready.pop()) is not None:
                _, job = found
                if self._waiting.pop(job, job) is None and job.answer.set_running_or_notify_cancel():
                    batch.append(job)
        return batch

    @property
    def _max_batch(self) -> int:
        is_cpu = self._spec is None or self._spec.platform == "cpu"
        return self._config.max_batch or (1 if is_cpu else _MAX_BATCH)

    def _prepare_a_piece(self) -> bool:
        """Do the next piece of what was anticipated first and is still wanted; say whether there was one."""
        with self._changed:
            self._leave_out_unwanted()
            first = next(iter(self._anticipated), None)
        if first is None:
            return False
        try:
            assert first.policy_input is not None, "it was put into the queue with it"
            first.pieces = first.pieces or self._adapter.prefetch(first.policy_input)
            next(first.pieces)
        except StopIteration:
            first.cancel()
        except Exception:
            logger.exception("the policy failed to prepare for a request; it is answered without")
            first.cancel()
        return True

    def _compile_rarer(self) -> None:
        """Have the policy answer one more input of a kind that requests seldom have, if all is quiet."""
        with self._changed:
            is_quiet = not self._waiting and time.monotonic() - self._last_asked >= QUIET_S
        if self._rarer is None or not is_quiet:
            return
        try:
            policy_input = next(self._rarer, None)
            if policy_input is None:
                self._rarer = None
            else:
                self._adapter.predict([policy_input])
        except Exception:
            logger.exception("the policy failed to warm up for requests of a rarer kind")
            self._rarer = None

    def _predict(self, batch: list[_Job]) -> None:
        started = time.perf_counter()
        inputs = [job.policy_input for job in batch if job.policy_input is not None]
        try:
            outputs = self._adapter.predict(inputs) if inputs else []
            assert len(outputs) == len(batch), "the adapter gives one entry per input"
        except BaseException as error:
            self._recover(batch, error)
            return
        infer_ms = 1e3 * (time.perf_counter() - started)
        for job, chunks in zip(batch, outputs, strict=True):
            queue_ms = 1e3 * (started - job.ready_at)
            if np.isfinite(chunks).all():
                job.answer.set_result(Prediction(chunks=chunks, queue_ms=queue_ms, infer_ms=infer_ms))
            else:
                job.answer.set_exception(NotFinite(_NOT_FINITE))

    def _recover(self, batch: list[_Job], error: BaseException) -> None:
        """Find out whose fault it was: each request of a failed batch runs once more, alone."""
        if len(batch) > 1:
            ids = " ".join(job.request_id for job in batch)
            logger.warning("a batch of %d failed (%s); its requests run one by one: %s", len(batch), error, ids)
            for job in batch:
                self._predict([job])
            return
        if not isinstance(error, VLAError):
            logger.error("request_id=%s the policy failed on it", batch[0].request_id, exc_info=error)
            error = VLAError("the policy failed on this request")
        batch[0].answer.set_exception(error)


def _check_warm(outputs: Sequence[NormalizedChunks]) -> None:
    """Refuse a policy whose answers to plain inputs are no numbers.

    Raises:
        ModelUnavailable: saying so.
    """
    if not all(np.isfinite(chunks).all() for chunks in outputs):
        raise ModelUnavailable(f"{_NOT_FINITE}, to a black picture: its weights are damaged")


def _check_shown(window: Window, spec: PolicySpec) -> None:
    """Refuse a window in which nothing is of the policy's first camera: more likely misnamed than missing.

    Raises:
        ImageError: saying which cameras are in it.
    """
    first, shown = spec.camera_names[0], {name for step in window.observations for name in step.images}
    if first not in shown:
        raise ImageError(
            f"there is no picture for the camera '{first}' in the last {spec.window} observations;"
            f" they show: {', '.join(sorted(shown)) or 'nothing'}",
            hint=f"send one of '{first}'; docs/clients.md has its names in messages, VLA_OBSERVATION_KEYS adds others",
        )

"""The device thread and its queue: the policy runs on batches of requests, and prefetches while no request waits."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field

import numpy as np

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import (
    NormalizedChunks,
    PolicyInput,
    PolicySpec,
)
from vla_server_base.engine.loading import (
    LOADED,
    LOADING,
    WARMING_UP,
    EngineStatus,
    broken_status,
    check_warm_up_outputs,
    load_with_retries,
    model_unavailable,
)
from vla_server_base.errors import NotFinite, Overloaded, VLAError
from vla_server_base.fairness import FairQueue, Flow, current_flow, greediest_beside
from vla_server_base.request_context import current_request_id

logger = logging.getLogger(__name__)

_MAX_BATCH = 64
# Background warm-up compiles after this time without requests: it does not hold up a robot at 1 Hz or more.
QUIET_S = 1.0
NOT_FINITE = "the policy answered with numbers that are not finite"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Normalized chunks for one request, how long it waited for the device, and how long the device took."""

    chunks: NormalizedChunks
    queue_ms: float
    infer_ms: float


@dataclass(eq=False)
class Prefetch:
    """What the device prepares while it is idle, for a request that is likely to come."""

    policy_input: PolicyInput | None = None
    pieces: Iterator[None] | None = None
    is_wanted: bool = True

    def cancel(self) -> None:
        """Skip the rest: the request has come, or will not come."""
        self.is_wanted = False


@dataclass(eq=False, kw_only=True)
class Job:
    """One request in the engine; it is being preprocessed until `policy_input` is set."""

    flow: Flow
    answer: "Future[Prediction]" = field(default_factory=Future)
    context: Context = field(default_factory=copy_context)
    policy_input: PolicyInput | None = None
    ready_at: float = 0.0

    def refuse(self, error: BaseException) -> None:
        """Answer a request that has not reached the device with an error."""
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(error)


class RequestQueue:
    """Requests on their way to the device, at most `max_queue`; all methods may be called on any thread.

    Clients take turns, and the sessions of a client take turns. In a full queue, the flow with the most requests makes
    room for one with fewer.
    """

    def __init__(self, max_queue: int):
        self._max_queue = max_queue
        self._changed = threading.Condition()  # guards the fields below
        self.waiting: dict[Job, None] = {}  # an ordered set: the last request came last
        self._ready: FairQueue[Job] = FairQueue()  # includes some that have left
        self.prefetches: list[Prefetch] = []
        self._refusal: Callable[[], VLAError] | None = None
        self.last_request_at = 0.0
        self.is_closing = False

    def admit(self) -> Job:
        """Add a request of the current flow, to be preprocessed.

        Raises:
            Overloaded: the queue is full, and no flow has more requests in it.
            VLAError: see `refuse_all`.
        """
        with self._changed:
            if self._refusal is not None:
                raise self._refusal()
            job = Job(flow=current_flow())
            if len(self.waiting) >= self._max_queue:
                self._make_room(job.flow)
            self.waiting[job] = None
            self.last_request_at = time.monotonic()
            return job

    def is_mostly_of(self, flow: Flow) -> bool:
        """Return whether a flow has at least half of the queue."""
        with self._changed:
            return 2 * sum(job.flow == flow for job in self.waiting) >= self._max_queue

    def _make_room(self, flow: Flow) -> None:
        error = Overloaded(
            f"the queue for the device is full ({self._max_queue} waiting)",
            hint="send again later, or fewer at a time; VLA_MAX_QUEUE raises the limit",
        )
        greediest = greediest_beside(flow, [job.flow for job in self.waiting])
        if greediest is None:
            raise error
        last = next(job for job in reversed(self.waiting) if job.flow == greediest)
        del self.waiting[last]
        last.refuse(error)

    def make_ready(self, job: Job, policy_input: PolicyInput) -> None:
        """Hand a preprocessed request to the device."""
        with self._changed:
            job.ready_at = time.perf_counter()
            job.policy_input = policy_input
            self._ready.put(job.flow, job)
            self._changed.notify_all()

    def remove(self, job: Job) -> bool:
        """Remove a request; return whether it was in the queue, and so has no answer yet."""
        with self._changed:
            return self.waiting.pop(job, job) is None

    def take_batch(self, max_batch: int) -> list[Job]:
        """Remove and return the requests that run together next, of each flow in turn."""
        batch: list[Job] = []
        with self._changed:
            while len(batch) < max_batch and (item := self._ready.pop()) is not None:
                _, job = item
                if self.waiting.pop(job, job) is None and job.answer.set_running_or_notify_cancel():
                    batch.append(job)
        return batch

    def wait_for_work(self, timeout_s: float | None) -> None:
        """Wait for a request, for something to prefetch, or for the end."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_closing or self._ready or self.prefetches, timeout_s)

    def closed_within(self, timeout_s: float) -> bool:
        """Wait until the queue closes, or for so long; return whether it has closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_closing, timeout_s)

    def add_prefetch(self, prefetch: Prefetch) -> None:
        """Add something to prefetch, and drop what is no longer needed: a busy device never gets to it."""
        with self._changed:
            self.prefetches = [each for each in (*self.prefetches, prefetch) if each.is_wanted]
            self._changed.notify_all()

    def first_prefetch(self) -> Prefetch | None:
        """Return the oldest prefetch that is still wanted."""
        with self._changed:
            self.prefetches = [each for each in self.prefetches if each.is_wanted]
            return next(iter(self.prefetches), None)

    def is_quiet(self) -> bool:
        """Return whether no request waits, or came lately."""
        with self._changed:
            return not self.waiting and time.monotonic() - self.last_request_at >= QUIET_S

    def refuse_all(self, error: Callable[[], VLAError]) -> None:
        """Answer all that wait, and all that come from now on, with an error."""
        with self._changed:
            self._refusal = error
            waiting = list(self.waiting)
            self.waiting.clear()
        for job in waiting:
            job.refuse(error())

    def close(self) -> None:
        """Let the device thread end."""
        with self._changed:
            self.is_closing = True
            self._changed.notify_all()


class DeviceThread:
    """The one thread on which the policy loads, compiles and runs."""

    def __init__(
        self,
        adapter: VLAModelAdapter,
        config: ServerConfig,
        model_id: str,
        queue: RequestQueue,
        check_spec: Callable[[PolicySpec], None],
    ):
        self._adapter, self._config, self._model_id, self._queue = adapter, config, model_id, queue
        self._check_spec = check_spec
        self._background_inputs: Iterator[PolicyInput] | None = None
        self.status = LOADING
        self.spec: PolicySpec | None = None
        """What the policy takes and gives, also while it is being warmed up."""
        self.load_ended: Future[None] = Future()
        """Done once the policy is loaded or broken, or the thread ends."""
        self.load_ended.set_running_or_notify_cancel()  # a caller that is cancelled does not cancel it
        self.thread = threading.Thread(target=self._run, name="vla-device", daemon=True)

    def _run(self) -> None:
        try:
            is_loaded = self._load()
        finally:
            self.load_ended.set_result(None)
        while is_loaded and not self._queue.is_closing:
            background = self._background_inputs is not None
            quiet_at = self._queue.last_request_at + QUIET_S
            self._queue.wait_for_work(max(0.0, quiet_at - time.monotonic()) if background else None)
            if batch := self._queue.take_batch(self._max_batch):
                self._predict(batch)
            elif not self._prefetch_a_piece() and background and self._queue.is_quiet():
                self._warm_up_in_background()

    def _load(self) -> bool:
        """Load and warm up, and answer what comes meanwhile; return whether that went well."""
        started = time.perf_counter()
        try:
            closed_within = self._queue.closed_within
            load_with_retries(
                self._adapter, self._config, self._model_id, report=self._report, closed_within=closed_within
            )
            self.status = WARMING_UP
            self._check_spec(self._adapter.spec)
            self.spec = self._adapter.spec
            for policy_input in self._adapter.warm_up_inputs():
                if batch := self._queue.take_batch(self._max_batch):
                    self._predict(batch)
                if self._queue.is_closing:
                    return False
                check_warm_up_outputs(self._adapter.predict([policy_input]))
            self._background_inputs = iter(self._adapter.background_warm_up_inputs())
            self._queue.last_request_at = time.monotonic()  # callers that have waited for this come first
        except BaseException as error:
            self._give_up(broken_status(error, self._model_id))
            return False
        # What is loaded stays: each search for garbage in it would hold up a robot.
        gc.collect()
        gc.freeze()
        self.status = LOADED
        logger.info("model=%s status=loaded seconds=%.1f", self._model_id, time.perf_counter() - started)
        return True

    def _report(self, status: EngineStatus) -> None:
        self.status = status

    def _give_up(self, status: EngineStatus) -> None:
        self.status, self.spec = status, None
        self._queue.refuse_all(lambda: model_unavailable(status))

    @property
    def _max_batch(self) -> int:
        is_cpu = self.spec is None or self.spec.platform == "cpu"
        return self._config.max_batch or (1 if is_cpu else _MAX_BATCH)

    def _predict(self, batch: list[Job]) -> None:
        started = time.perf_counter()
        inputs = [job.policy_input for job in batch if job.policy_input is not None]
        try:
            outputs = self._adapter.predict(inputs) if inputs else []
            assert len(outputs) == len(batch), "the adapter gives one entry per input"
        except BaseException as error:
            self._run_one_by_one(batch, error)
            return
        infer_ms = 1e3 * (time.perf_counter() - started)
        for job, chunks in zip(batch, outputs, strict=True):
            queue_ms = 1e3 * (started - job.ready_at)
            if np.isfinite(chunks).all():
                job.answer.set_result(Prediction(chunks=chunks, queue_ms=queue_ms, infer_ms=infer_ms))
            else:
                job.answer.set_exception(NotFinite(NOT_FINITE, hint="send another observation"))

    def _run_one_by_one(self, batch: list[Job], error: BaseException) -> None:
        """Find the request that made a batch fail: each runs once more, alone."""
        if len(batch) > 1:
            ids = " ".join(job.context.get(current_request_id, "-") for job in batch)
            logger.warning("a batch of %d failed (%s); its requests run one by one: %s", len(batch), error, ids)
            for job in batch:
                self._predict([job])
            return
        (job,) = batch
        if not isinstance(error, VLAError):
            request_id = job.context.get(current_request_id, "-")
            job.context.run(logger.error, "request_id=%s the policy failed on it", request_id, exc_info=error)
            error = VLAError("the policy failed on this request", hint="look up the request_id in the server's log")
        job.answer.set_exception(error)

    def _prefetch_a_piece(self) -> bool:
        """Run the next piece of the oldest prefetch; return whether there was one."""
        prefetch = self._queue.first_prefetch()
        if prefetch is None:
            return False
        try:
            assert prefetch.policy_input is not None, "a prefetch is preprocessed before it enters the queue"
            prefetch.pieces = prefetch.pieces or self._adapter.prefetch(prefetch.policy_input)
            next(prefetch.pieces)
        except StopIteration:
            prefetch.cancel()
        except Exception:
            logger.exception("prefetching failed; the request is answered without it")
            prefetch.cancel()
        return True

    def _warm_up_in_background(self) -> None:
        """Have the policy answer one more input of the kind that requests seldom have."""
        assert self._background_inputs is not None, "the caller has checked it"
        try:
            policy_input = next(self._background_inputs, None)
            if policy_input is None:
                self._background_inputs = None
            else:
                self._adapter.predict([policy_input])
        except Exception:
            logger.exception("the background warm-up of the policy failed")
            self._background_inputs = None

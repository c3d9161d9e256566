"""Requests on their way to the device: their queue, in which clients take turns, and the batches in which they run."""

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field

import numpy as np

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.contract import NormalizedChunks, PolicyInput
from vla_server_base.engine.prefetch import Prefetches
from vla_server_base.errors import DeadlinePassed, NotFinite, Overloaded, VLAError
from vla_server_base.fairness.claims import PRIORITIES, Claim, current_claim, displaced_by
from vla_server_base.fairness.precedence import LOOK_AGAIN_S, Precedence
from vla_server_base.fairness.queue import FairQueue
from vla_server_base.monitoring.engine_load import EngineLoad
from vla_server_base.monitoring.engine_monitor import EngineMonitor
from vla_server_base.request_context import Priority, current_request_id

logger = logging.getLogger(__name__)

NOT_FINITE = "the policy answered with numbers that are not finite"
_MAX_RETRY_AFTER_S = 60
# The time that a request takes on the device is averaged over about so many.
_NUM_AVERAGED = 20
# The least time that a batch takes is that of so many.
_NUM_LATELY = 64
# A robot that asked within this time is likely to ask again soon.
_RECENT_S = 2.0
_LONGEST_REST_S = 0.2
_NEXT = "send the next observation; it is answered as usual"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Normalized chunks for one request, how long it waited for the device, and how long the device took."""

    chunks: NormalizedChunks
    queue_ms: float
    infer_ms: float


@dataclass(eq=False, kw_only=True)
class Job:
    """One request in the engine; it is being preprocessed until `policy_input` is set."""

    claim: Claim
    answer: "Future[Prediction]" = field(default_factory=Future)
    context: Context = field(default_factory=copy_context)
    policy_input: PolicyInput | None = None
    ready_at: float = 0.0
    came_at: float = 0.0

    def refuse(self, error: BaseException) -> None:
        """Answer a request that has not reached the device with an error."""
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(error)


class RequestQueue:
    """Requests on their way to the device, at most `max_queue`; all methods may be called on any thread.

    They are served in the order of a FairQueue, and at most `max_queue_per_client` are of one client. In a full queue
    the less urgent make room, and the flow with the most requests for one with fewer: see `displaced_by`. What must
    wait for a request of `precedence` is not ready yet. What has waited until the device cannot have it ready by its
    deadline is refused, so that the device has time for what can be in time.
    """

    def __init__(
        self,
        max_queue: int,
        max_queue_per_client: int | None = None,
        precedence: Precedence | None = None,
        *,
        order: FairQueue[Job] | None = None,
        refuses_hopeless: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        """A benchmark compares with others' `order`, and with what `refuses_hopeless` brings; a simulation has a clock.

        Deadlines are by `clock`.
        """
        self._max_queue, self._precedence, self._clock = max_queue, precedence or Precedence(), clock
        self._max_of_client = min(max_queue, max_queue_per_client or max_queue)
        self._seconds_each = 0.0
        self._load = EngineLoad()
        self._refuses_hopeless = refuses_hopeless
        # How long the last batches took whose requests are of one sample each.
        self._batch_seconds: deque[float] = deque(maxlen=_NUM_LATELY)
        self._changed = threading.Condition()  # guards the fields below
        self.prefetches = Prefetches(self._changed)
        self.waiting: dict[Job, None] = {}  # an ordered set: the last request came last
        self._ready: FairQueue[Job] = FairQueue() if order is None else order  # includes some that have left
        self._refusal: Callable[[], VLAError] | None = None
        self.last_busy_at = 0.0
        """When the last request came or was answered, whichever was later."""
        # The last claim of each client and class, and when it came; the newest is at the end.
        self._recent: dict[tuple[str, Priority], tuple[Claim, float]] = {}
        self.is_closing = False

    def admit(self, claim: Claim | None = None) -> Job:
        """Add a request, by default that of the present task, to be preprocessed.

        Raises:
            Overloaded: the queue is full, or the client's part of it, and no other request has to make room.
            VLAError: see `refuse_all`.
        """
        with self._changed:
            if self._refusal is not None:
                raise self._refusal()
            self.last_busy_at = self._clock()
            job = Job(claim=claim or current_claim(), came_at=self.last_busy_at)
            self._load.note_asked(job.claim.due_at)
            self._make_room(job.claim)
            self.waiting[job] = None
            self._note_request(job.claim)
            return job

    def _note_request(self, claim: Claim) -> None:
        key: tuple[str, Priority] = (claim.flow.client, claim.priority)
        now = self.last_busy_at
        self._recent.pop(key, None)
        self._recent[key] = (claim, now)
        while (oldest := next(iter(self._recent))) and self._recent[oldest][1] < now - _RECENT_S:
            del self._recent[oldest]

    @property
    def num_waiting(self) -> int:
        """How many requests wait, preprocessing included."""
        return len(self.waiting)

    @property
    def num_waiting_by_class(self) -> dict[Priority, int]:
        """How many requests of each class wait, preprocessing included."""
        with self._changed:
            num_waiting = Counter(job.claim.priority for job in self.waiting)
        return {priority: num_waiting[priority] for priority in PRIORITIES}

    @property
    def is_empty(self) -> bool:
        """Whether no request waits, and there is nothing to prefetch."""
        return not self.waiting and not self.prefetches.waiting

    def is_mostly_of(self, client: str) -> bool:
        """Return whether a client has at least half of the queue, or all the places that a client may have."""
        with self._changed:
            return self._is_mostly_of(client)

    def _is_mostly_of(self, client: str) -> bool:
        num_waiting = sum(job.claim.flow.client == client for job in self.waiting)
        return num_waiting >= min(self._max_of_client, (self._max_queue + 1) // 2)

    def rest_after(self, claim: Claim, rest_s: float) -> bool:
        """Wait so long after a request, or until one is ready that need not wait; return whether it was so long.

        So what is less urgent leaves processors to robots that ask meanwhile, and a client that fills the queue leaves
        some to others.
        """
        if rest_s <= 0:
            return False
        with self._changed:
            is_flood = self._is_mostly_of(claim.flow.client)

            def gives_way_to(other: Claim) -> bool:
                return other.is_more_urgent_than(claim) or (is_flood and other.flow.client != claim.flow.client)

            since = self._clock() - _RECENT_S
            if not any(asked_at >= since and gives_way_to(other) for other, asked_at in self._recent.values()):
                return False

            def may_go_on() -> bool:
                return self.is_closing or any(gives_way_to(other) for other, _ in self._ready)

            return not self._changed.wait_for(may_go_on, min(_LONGEST_REST_S, rest_s))

    def check_room(self, claim: Claim) -> None:
        """Refuse a claim for which there is no place now; a request with it may come a little later.

        Raises:
            Overloaded: see `admit`.
        """
        with self._changed:
            crowd, num_places, setting = self._crowd_of(claim)
            if len(crowd) >= num_places and displaced_by(claim, crowd, num_places) is None:
                raise self._overloaded(num_places, setting)

    def _overloaded(self, num_places: int, setting: str) -> Overloaded:
        wait_s = self.retry_after_s
        return Overloaded(
            f"the queue for the device is full ({num_places} waiting)",
            hint=f"send again in {wait_s} s, or fewer at a time; {setting} raises the limit",
            retry_after_s=wait_s,
        )

    def _make_room(self, claim: Claim) -> None:
        """Have the request leave that must make room for a new one, if there is one."""
        crowd, num_places, setting = self._crowd_of(claim)
        if len(crowd) < num_places:
            return
        displaced = displaced_by(claim, crowd, num_places)
        error = self._overloaded(num_places, setting)
        self._load.note_late()
        if displaced is None:
            raise error
        last = next(job for job in self.waiting if job.claim is displaced)
        del self.waiting[last]
        last.refuse(error)

    def _crowd_of(self, claim: Claim) -> tuple[list[Claim], int, str]:
        """Return the claims that compete for a place with a new one, the number of places, and its setting.

        They are those of the same client, where it has all its places.
        """
        claims = [job.claim for job in self.waiting]
        own = [each for each in claims if each.flow.client == claim.flow.client]
        if len(own) >= self._max_of_client:
            return own, self._max_of_client, "VLA_MAX_QUEUE_PER_CLIENT"
        return claims, self._max_queue, "VLA_MAX_QUEUE"

    def make_ready(self, job: Job, policy_input: PolicyInput) -> None:
        """Hand a preprocessed request to the device."""
        with self._changed:
            job.ready_at = time.perf_counter()
            job.policy_input = policy_input
            self._ready.put(job.claim, job)
            self._changed.notify_all()

    def wants(self, job: Job) -> bool:
        """Return whether a request still waits; it is refused where its deadline has passed."""
        if job.claim.has_passed(self._clock()) and self.remove(job):
            job.refuse(_deadline_passed())
        return job in self.waiting

    def note_served(self, batch: Sequence[Job], seconds: float) -> None:
        """Count how long a batch took on the device; its robots, however long they waited, are to ask again soon."""
        self.last_busy_at = self._clock()
        self._load.note_served(len(batch), seconds)
        weight = min(1.0, len(batch) / _NUM_AVERAGED) if self._seconds_each else 1.0
        self._seconds_each += weight * (seconds / len(batch) - self._seconds_each)
        if all(job.policy_input is not None and job.policy_input.num_samples == 1 for job in batch):
            self._batch_seconds.append(seconds)

    @property
    def load(self) -> dict[str, float]:
        """What is asked and how fast it is answered: see `EngineLoad`; `waiting` counts what waits now."""
        return {"waiting": float(len(self.waiting)), **self._load.stats()}

    @property
    def retry_after_s(self) -> int:
        """How long the device takes for all that waits, in whole seconds."""
        return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(len(self.waiting) * self._seconds_each)))

    def remove(self, job: Job) -> bool:
        """Remove a request; return whether it was in the queue, and so has no answer yet."""
        with self._changed:
            has_waited = self.waiting.pop(job, job) is None
        if has_waited and job.claim.has_passed(self._clock()):
            self._load.note_late()
        return has_waited

    def take_batch(self, max_batch: int, *, beside: Claim | None = None) -> list[Job]:
        """Remove and return the requests that run together next, of each flow in turn.

        `beside` is the claim of a request that is being worked on: only others of one sample, of other clients or more
        urgent, interrupt it.
        """

        def is_ready(claim: Claim, job: Job) -> bool:
            return _interrupts(job, beside) if beside is not None else not self._precedence.must_wait(claim)

        batch: list[Job] = []
        with self._changed:
            while len(batch) < max_batch and (item := self._ready.pop(is_ready)) is not None:
                _, job = item
                if self.waiting.pop(job, job) is not None:
                    continue
                if (error := self._too_late(job)) is not None:
                    self._load.note_late()
                    job.refuse(error)
                elif job.answer.set_running_or_notify_cancel():
                    self._load.note_taken(job.claim.deadline)
                    batch.append(job)
        return batch

    def _too_late(self, job: Job) -> DeadlinePassed | None:
        """Return why a request must not be begun now; None if it may be in time.

        The device takes at least the least of the last times. One that could not have been in time when it came has not
        become late by waiting, so it is tried: it may be of a kind that takes less, which nothing else would show.
        """
        now, deadline = self._clock(), job.claim.deadline
        if job.claim.has_passed(now):
            return _deadline_passed()
        if deadline is None or not self._refuses_hopeless:
            return None
        least_s = min(self._batch_seconds, default=0.0)
        return _hopeless(deadline - now, least_s) if now + least_s > deadline >= job.came_at + least_s else None

    def wait_for_work(self, timeout_s: float | None) -> None:
        """Wait for a request, for something to prefetch, or for the end."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_closing or self._ready or self.prefetches.waiting, timeout_s)
            while self._all_must_wait():
                self._changed.wait(LOOK_AGAIN_S)

    def _all_must_wait(self) -> bool:
        is_idle = self.is_closing or not self._ready
        return not is_idle and all(self._precedence.must_wait(claim) for claim, _ in self._ready)

    def closed_within(self, timeout_s: float) -> bool:
        """Wait until the queue closes, or for so long; return whether it has closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_closing, timeout_s)

    def is_quiet(self, quiet_s: float) -> bool:
        """Return whether no request waits, and none came or was answered within the last `quiet_s`."""
        with self._changed:
            return not self.waiting and self._clock() - self.last_busy_at >= quiet_s

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


def _deadline_passed() -> DeadlinePassed:
    return DeadlinePassed("the deadline passed while the request waited", hint=_NEXT)


def _hopeless(left_s: float, least_s: float) -> DeadlinePassed:
    return DeadlinePassed(
        f"the request has waited too long: {1e3 * left_s:.0f} ms are left, the device takes {1e3 * least_s:.0f}",
        hint=_NEXT,
    )


def _interrupts(job: Job, beside: Claim) -> bool:
    is_short = job.policy_input is not None and job.policy_input.num_samples == 1
    return is_short and (job.claim.flow.client != beside.flow.client or job.claim.is_more_urgent_than(beside))


def serve_batch(
    queue: RequestQueue,
    adapter: VLAModelAdapter,
    batch: list[Job],
    monitor: EngineMonitor,
    run_others: Callable[[Claim], None],
) -> None:
    """Run a batch of a queue, and have the queue count how long that took: see `run_batch`."""
    started = time.perf_counter()
    run_batch(adapter, batch, monitor, run_others)
    queue.note_served(batch, time.perf_counter() - started)


def run_batch(
    adapter: VLAModelAdapter, batch: list[Job], monitor: EngineMonitor, run_others: Callable[[Claim], None]
) -> None:
    """Run the policy on the requests of a batch, and answer each, whatever happens; if it fails, they run one by one.

    A request of many samples runs alone in pieces; `run_others` is called between them, with its claim.
    """
    started = time.perf_counter()
    try:
        outputs, others_s = _outputs(adapter, batch, run_others)
        assert len(outputs) == len(batch), "the adapter returns one entry per input"
        are_finite = [bool(np.isfinite(chunks).all()) for chunks in outputs]
    except BaseException as error:
        if len(batch) == 1:
            _answer_failed(batch[0], error)
            return
        ids = " ".join(job.context.get(current_request_id, "-") for job in batch)
        logger.warning("a batch of %d failed (%s); its requests run one by one: %s", len(batch), error, ids)
        for job in batch:
            run_batch(adapter, [job], monitor, run_others)
        return
    infer_s = time.perf_counter() - started - others_s
    _answer_all(batch, outputs, are_finite, started, infer_s)
    monitor.batch_ran([job.context for job in batch], [started - job.ready_at for job in batch], infer_s)


def _answer_all(
    batch: list[Job], outputs: list[NormalizedChunks], are_finite: list[bool], started: float, infer_s: float
) -> None:
    for job, chunks, is_finite in zip(batch, outputs, are_finite, strict=True):
        queue_ms = 1e3 * (started - job.ready_at)
        if is_finite:
            job.answer.set_result(Prediction(chunks=chunks, queue_ms=queue_ms, infer_ms=1e3 * infer_s))
        else:
            job.answer.set_exception(NotFinite(NOT_FINITE, hint="send another observation"))


def _outputs(
    adapter: VLAModelAdapter, batch: list[Job], run_others: Callable[[Claim], None]
) -> tuple[list[NormalizedChunks], float]:
    """Return the chunks of a batch, and the seconds that others took meanwhile."""
    inputs = [job.policy_input for job in batch if job.policy_input is not None]
    if len(inputs) > 1 or inputs[0].num_samples == 1:
        return adapter.predict(inputs), 0.0
    pieces, num_done, others_s = [], 0, 0.0
    for piece in adapter.predict_in_pieces(inputs[0]):
        pieces.append(piece)
        num_done += len(piece)
        if num_done < inputs[0].num_samples:
            paused = time.perf_counter()
            run_others(batch[0].claim)
            others_s += time.perf_counter() - paused
    return [np.concatenate(pieces)], others_s


def _answer_failed(job: Job, error: BaseException) -> None:
    if not isinstance(error, VLAError):
        job.context.run(logger.error, "the policy failed on a request", exc_info=error)
        error = VLAError("the policy failed on this request", hint="the server's log has the request_id")
    job.answer.set_exception(error)

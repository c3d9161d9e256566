"""RayEngine: a server's policy in other processes, which replicas of a Ray Serve deployment run."""

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

import grpc.aio
from ray.exceptions import NodeDiedError, RpcError

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicyRequest, PolicySpec
from vla_server_base.engine.batches import Job, Prediction
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.loading import LOADED, LOADING, EngineStatus, broken_status, shutting_down
from vla_server_base.engine.prefetch import Prefetch
from vla_server_base.errors import DeadlinePassed, ModelUnavailable, Unavailable, VLAError
from vla_server_base.fairness.precedence import Precedence
from vla_server_base.fairness.shared_device import SharedDevice
from vla_server_base.fleet.cluster import lost_nodes, reason_of
from vla_server_base.fleet.description import ModelDescription
from vla_server_base.fleet.losses import LOST
from vla_server_base.fleet.model_deployment import ModelDeployment
from vla_server_base.fleet.origin import Origin
from vla_server_base.monitoring.monitor import Monitoring

logger = logging.getLogger(__name__)

_RECOVERY_S = 60.0
"""For how long a request waits for a replica in the place of one that was lost; a model takes that long to load."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 1.0
_LOOK_S = 5.0
"""How often a server looks whether a machine was lost; only a machine can go without closing its connections."""
_ROUTED_S = 10.0
"""Within which no more requests are sent to a lost machine."""


class RayEngine(Engine):
    """Takes requests from the event loop to a replica of `model` and back.

    The requests of a session go to the same replica, which keeps what it computed for them; when replicas come or go,
    some sessions change theirs, and get the same answers. A request whose replica is lost goes to another one.
    """

    def __init__(
        self,
        adapter: VLAModelAdapter,
        config: ServerConfig,
        model_id: str,
        *,
        model: ModelDeployment,
        check_spec: Callable[[PolicySpec], None] = lambda _spec: None,
        name: str | None = None,
        shared_device: SharedDevice | None = None,
        monitor: Monitoring | None = None,
        precedence: Precedence | None = None,
    ):
        del shared_device  # it is other processes'
        super().__init__(adapter, config, model_id, name=name, monitor=monitor, precedence=precedence)
        self._model, self._check_spec = model, check_spec
        self._status = LOADING
        self._description: ModelDescription | None = None
        self._loading: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._machine_lost_at = -math.inf

    @property
    def status(self) -> EngineStatus:
        return self._status

    @property
    def _known_spec(self) -> PolicySpec | None:
        return None if self._description is None else self._description.adapter.spec

    def start(self) -> None:
        self._loading = asyncio.create_task(self._load())

    async def loaded(self) -> PolicySpec:
        assert self._loading is not None, "the engine has started"
        await asyncio.wait([self._loading])
        if self._loading.cancelled():
            raise shutting_down()
        return self.spec

    def prefetch(self, request: PolicyRequest) -> Prefetch:
        prefetch = Prefetch()
        if self._description is not None and self._description.prefetches and self.answers:
            self._begin(self._ask_to_prefetch(prefetch, request, self._origin))
        return prefetch

    async def close(self, why: Callable[[], Unavailable] | None = None) -> None:
        self._queue.close()
        self._queue.refuse_all(why or shutting_down)
        pending = [*self._tasks, *([self._loading] if self._loading else [])]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _load(self) -> None:
        """Learn what the policy is, once a replica has loaded it."""
        try:
            described = asyncio.ensure_future(self._describe())
            while not (await asyncio.wait([described], timeout=1.0))[0]:
                if (why := await asyncio.to_thread(self._model.failure)) is not None:
                    described.cancel()
                    raise ModelUnavailable(why, hint="see the log of the replica")
            description = await described
            self._check_spec(description.adapter.spec)
        except Exception as error:
            self._status = status = broken_status(error, self.id)
            self._queue.refuse_all(lambda: ModelUnavailable(status.reason or "", hint="see the server's log"))
        else:
            self._adapter, self._description, self._status = description.adapter, description, LOADED
            self._begin(self._watch_machines())
            logger.info("model=%s status=loaded on the cluster", self.id)

    async def _describe(self) -> ModelDescription:
        while True:
            try:
                return await _value_of(self._model.handle.describe.remote())
            except LOST as error:  # noqa: PERF203
                logger.warning("model=%s cannot be asked what it is yet: %s", self.id, reason_of(error))
                await asyncio.sleep(_LONGEST_WAIT_S)

    async def _watch_machines(self) -> None:
        known: frozenset[str] | None = None
        while True:
            try:
                lost = await asyncio.to_thread(lost_nodes)
            except LOST as error:
                logger.debug("the cluster cannot be asked for its machines: %s", reason_of(error))
            else:
                if known is not None and lost - known:
                    self._machine_lost_at = time.monotonic()
                known = lost
            await asyncio.sleep(_LOOK_S)

    @property
    def _origin(self) -> Origin:
        assert self._description is not None, "requests are taken once the policy is loaded"
        return Origin.current(self._description.fingerprint)

    def _submit(self, job: Job, request: PolicyRequest) -> None:
        task = self._begin(self._answer(job, request, self._origin))
        loop = asyncio.get_running_loop()
        # A caller that is gone, or had to make room, needs no answer; the queue may refuse it on any thread.
        job.answer.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(task.cancel))

    def _begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(self, job: Job, request: PolicyRequest, origin: Origin) -> None:
        started = time.perf_counter()
        try:
            outcome = await self._ask(request, origin)
        except Exception as error:
            outcome = error if isinstance(error, VLAError) else _failed(error)
        if not self._queue.remove(job):
            return  # it was refused meanwhile
        if isinstance(outcome, VLAError):
            job.refuse(outcome)
            return
        seconds = time.perf_counter() - started
        self._queue.note_served([job], seconds)
        self.monitor.predicted_elsewhere(job.context, outcome.queue_ms / 1e3, outcome.infer_ms / 1e3)
        if job.answer.set_running_or_notify_cancel():
            job.answer.set_result(outcome)

    async def _ask(self, request: PolicyRequest, origin: Origin) -> Prediction | VLAError:
        """Ask the session's replica, and again where it is lost, until one answers.

        Raises:
            Unavailable: none did for a minute after one was lost.
            DeadlinePassed: the request's deadline passed.
        """
        predict = self._handle_of(origin).predict
        began, wait_s, left_s = time.monotonic(), _FIRST_WAIT_S, origin.deadline_s
        lost_at: float | None = None
        while True:
            response = predict.remote(dataclasses.replace(origin, deadline_s=left_s), request)
            try:
                return await self._awaited(response)
            except LOST as error:
                # A prediction is a function of its request alone: it may be asked for again.
                logger.warning("model=%s a replica was lost, a request is sent again: %s", self.id, reason_of(error))
                lost, lost_at = error, lost_at or time.monotonic()
            await asyncio.sleep(wait_s)
            wait_s, now = min(2 * wait_s, _LONGEST_WAIT_S), time.monotonic()
            if origin.deadline_s is not None and (left_s := began + origin.deadline_s - now) <= 0:
                raise DeadlinePassed(
                    "the deadline passed while a replica of the model was replaced",
                    hint="send the next observation; it is answered as usual",
                ) from lost
            if now - lost_at > _RECOVERY_S:
                raise self._no_replica() from lost

    async def _awaited(self, response: Any) -> Prediction | VLAError:
        """Wait for an answer, which takes as long as it takes, while there is a replica that may give it.

        Raises:
            NodeDiedError: a machine was lost meanwhile, perhaps that of the replica; its connection may stay open.
            Unavailable: none has run for a minute; Serve itself would wait without end.
        """
        answer = asyncio.ensure_future(_value_of(response))
        sent_at = looked_at = time.monotonic()
        try:
            while not (await asyncio.wait([answer], timeout=_LOOK_S))[0]:
                if sent_at < self._machine_lost_at + _ROUTED_S:
                    raise NodeDiedError("a machine was lost while it was asked")
                if time.monotonic() - looked_at > _RECOVERY_S:
                    looked_at = time.monotonic()
                    if not await asyncio.to_thread(self._model.num_running):
                        raise self._no_replica()
            return answer.result()
        finally:
            if not answer.done():
                response.cancel()
                answer.cancel()

    def _handle_of(self, origin: Origin) -> Any:
        """Return what leads to the replica of a session; requests without one go to any."""
        return self._model.handle.options(session_id=origin.request_id if origin.session == "-" else origin.session)

    def _no_replica(self) -> Unavailable:
        return Unavailable(
            f"no replica of the model '{self.id}' has answered for {_RECOVERY_S:.0f} s",
            hint="send it again later; the cluster's state says what is missing (`serve status`)",
        )

    async def _ask_to_prefetch(self, prefetch: Prefetch, request: PolicyRequest, origin: Origin) -> None:
        try:
            if prefetch.is_wanted:
                await self._handle_of(origin).prefetch.remote(origin, request)
        except Exception as error:  # the next step is answered all the same
            logger.debug("model=%s cannot prefetch: %s", self.id, reason_of(error))


async def _value_of(response: Any) -> Any:
    """Return a replica's answer.

    Raises:
        RpcError: its connection broke.
    """
    try:
        return await response
    except grpc.aio.AioRpcError as error:
        raise RpcError(f"{error.code().name}: {error.details()}") from error


def _failed(error: Exception) -> VLAError:
    logger.error("the policy failed on a request", exc_info=error)
    return VLAError("the policy failed on this request", hint="the log of the model's replica has the request_id")

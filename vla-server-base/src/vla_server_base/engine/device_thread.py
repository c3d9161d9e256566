"""The device thread: the policy loads, compiles and runs on it, and prefetches while no request waits."""

import gc
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import PolicyInput, PolicySpec
from vla_server_base.engine.batches import RequestQueue, run_batch, serve_batch
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
from vla_server_base.fairness.claims import Claim
from vla_server_base.fairness.processor_time import ProcessorTime
from vla_server_base.fairness.shared_device import SharedDevice
from vla_server_base.monitoring.engine_monitor import EngineMonitor

logger = logging.getLogger(__name__)

_MAX_BATCH = 64
# Background warm-up compiles after this time without requests: it does not hold up a robot at 1 Hz or more.
QUIET_S = 1.0
# A load or a compilation cannot be interrupted; past this the daemon thread is left to the end of the process.
_JOIN_TIMEOUT_S = 30.0


class DeviceThread:
    """The one thread on which the policy loads, compiles and runs."""

    def __init__(
        self,
        adapter: VLAModelAdapter,
        config: ServerConfig,
        model_id: str,
        queue: RequestQueue,
        check_spec: Callable[[PolicySpec], None],
        monitor: EngineMonitor,
        shared: SharedDevice,
        *,
        is_later: bool,
    ):
        self._adapter, self._config, self._model_id, self._queue = adapter, config, model_id, queue
        self._check_spec, self._monitor, self._shared, self._is_later = check_spec, monitor, shared, is_later
        self._max_batch = 1
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
        if not is_loaded:
            return
        try:
            self._serve()
        except BaseException as error:  # nobody else would answer what waits
            self._give_up(broken_status(error, self._model_id, "the device thread has failed"))

    def _serve(self) -> None:
        """Run batches as they come, else a piece of a prefetch, else a piece of the warm-up, until the queue closes."""
        used = ProcessorTime()
        while not self._queue.is_closing:
            background = self._background_inputs is not None
            quiet_at = self._queue.last_busy_at + QUIET_S
            self._queue.wait_for_work(max(0.0, quiet_at - time.monotonic()) if background else None)
            with self._shared.reserved(self._queue):
                batch = self._queue.take_batch(self._max_batch)
                has_prefetched = not batch and self._queue.prefetches.run_piece(self._adapter)
                if batch:
                    serve_batch(self._queue, self._adapter, batch, self._monitor, self._run_others)
            if batch:
                self._queue.rest_after(batch[-1].claim, used.rest_s())
                used = ProcessorTime()
            elif not has_prefetched and background and self._shared.is_quiet(QUIET_S):
                self._warm_up_in_background()

    def _run_others(self, beside: Claim) -> None:
        """Answer a request of another client between two pieces of a long one: it need not wait for all of them."""
        if batch := self._queue.take_batch(1, beside=beside):
            serve_batch(self._queue, self._adapter, batch, self._monitor, self._run_others)

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
            self._max_batch = self._config.max_batch or (1 if self.spec.platform == "cpu" else _MAX_BATCH)
            for policy_input in self._warm_up_inputs():
                if batch := self._queue.take_batch(self._max_batch):
                    run_batch(self._adapter, batch, self._monitor, self._run_others)
                if self._queue.is_closing:
                    return False
                check_warm_up_outputs(self._adapter.predict([policy_input]))
            if not self._is_later:
                self._background_inputs = iter(self._adapter.background_warm_up_inputs())
            self._queue.last_busy_at = time.monotonic()  # callers that have waited for this come first
        except BaseException as error:
            self._give_up(broken_status(error, self._model_id))
            return False
        # What is loaded stays: each search for garbage in it would hold up a robot.
        gc.collect()
        gc.freeze()
        self.status = LOADED
        logger.info("model=%s status=loaded seconds=%.1f", self._model_id, time.perf_counter() - started)
        return True

    def _warm_up_inputs(self) -> Iterable[PolicyInput]:
        inputs = self._adapter.warm_up_inputs()
        # A robot that changes to this policy is not to wait for what the first one compiles while it is idle.
        return itertools.chain(inputs, self._adapter.background_warm_up_inputs()) if self._is_later else inputs

    def _report(self, status: EngineStatus) -> None:
        self.status = status

    def _give_up(self, status: EngineStatus) -> None:
        self.status, self.spec = status, None
        self._queue.refuse_all(lambda: model_unavailable(status))

    def _warm_up_in_background(self) -> None:
        """Have the policy answer one more input of the kind that requests seldom have."""
        assert self._background_inputs is not None, "the caller has checked it"
        try:
            policy_input = next(self._background_inputs, None)
            if policy_input is None:
                self._background_inputs = None
            else:
                self._adapter.predict([policy_input])
        except BaseException:  # SystemExit too: it would end the device thread
            logger.exception("the background warm-up of the policy failed")
            self._background_inputs = None

    def join(self) -> None:
        """Wait for the thread to end, after what it runs now."""
        if self.thread.ident is None:
            return
        self.thread.join(_JOIN_TIMEOUT_S)
        if self.thread.is_alive():
            logger.warning("the device thread did not end within %.0f s", _JOIN_TIMEOUT_S)

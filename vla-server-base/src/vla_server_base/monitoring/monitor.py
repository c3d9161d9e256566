"""Monitoring: what the parts of a server report to, wherever it goes from there."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vla_server_base.monitoring.metrics import Metrics
from vla_server_base.monitoring.running_request import RunningRequest, current_request

if TYPE_CHECKING:
    from vla_server_base.monitoring.tracing import Tracing

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Monitoring:
    """What one app's parts report to; all methods may be called on any thread."""

    def __init__(self, tracing: "Tracing | None" = None) -> None:
        self.metrics = Metrics()
        self._tracing = tracing

    def begin_request(self, route: str, traceparent: object = None) -> RunningRequest:
        """Begin to measure a request or a message; `route` is one of our own words, never a client's.

        `traceparent` is what the client sent with the request's head, or with the head of its connection.
        """
        request = RunningRequest(self.metrics, self._tracing, route, traceparent)
        request.resume()
        return request

    def note_step(self, session: str | None, step: int, seed: int, model: str) -> None:
        """Say which step of which session the current request is."""
        request = current_request.get()
        if request is not None:
            request.session = session
            request.attributes.update({"vla.step": step, "vla.seed": seed, "vla.model": model})

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Report a `with` block as a part of the current request, unless it fails."""
        started = time.perf_counter()
        yield
        self.stage(stage, time.perf_counter() - started)

    def stage(self, stage: str, seconds: float) -> None:
        """Report a part of the current request that has just ended."""
        self.metrics.stage(stage, seconds)
        request = current_request.get()
        if request is not None:
            request.record(stage, seconds)

    def scene_job(self, seconds: float, stages_ms: Mapping[str, float], *, has_cached: bool) -> None:
        """Report a job of a scene worker for the current request; a stage without time was not asked for, or cached."""
        for stage, ms in stages_ms.items():
            if ms:
                self.metrics.stage(stage, ms / 1e3)
        request = current_request.get()
        if request is not None:
            times = {f"vla.{stage}_ms": ms for stage, ms in stages_ms.items()}
            request.record("render in worker", seconds, {"vla.scene_cached": has_cached, **times})

    def close(self) -> None:
        """Send what is left of the traces; not for the event loop."""
        if self._tracing is not None:
            self._tracing.close()


def record_batch(requests: Sequence[RunningRequest | None], queue_s: Sequence[float], infer_s: float) -> None:
    """Add to each request of a batch how long it waited, and what the device did for all, with links to all."""
    traced = [(request, seconds) for request, seconds in zip(requests, queue_s, strict=True) if request is not None]
    links = [link for request, _ in traced for link in request.links()]
    for request, seconds in traced:
        request.record("queue", seconds, ended_s_ago=infer_s)
        request.record("device batch", infer_s, {"vla.batch_size": len(requests)}, links)


def monitor_of_environment(version: str) -> Monitoring:
    """Return the monitor of an app, which traces if OpenTelemetry's variables name a collector.

    Raises:
        ConfigError: they do, and OpenTelemetry is not installed.
    """
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if is_off or not any(os.environ.get(name) for name in _ENDPOINTS):
        return Monitoring()
    from vla_server_base.monitoring.tracing import Tracing

    return Monitoring(Tracing(version))

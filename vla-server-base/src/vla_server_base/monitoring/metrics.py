"""The counters and histograms of one app; gauges are read when they are asked for, see `server/metrics.py`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from vla_server_base.errors import DeadlinePassed, VLAError
from vla_server_base.request_context import current_client, current_priority, current_protocol

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histograms of times. A robot at 3, 5 or 10 Hz is late at 0.35, 0.2 or 0.1 s."""

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

PROTOCOLS = ("http", "openpi", "vla-eval", "openvla", "gr00t", "lerobot")
DROP_REASONS = ("superseded", "skipped")
RESTART_REASONS = ("crash", "timeout", "memory", "killed", "worn")

_KEY_PREFIX = "key:"


class Metrics:
    """What one app counts and measures; two apps of a process share nothing. All methods may be called on any thread.

    Labels come from bounded sets: our own words, the routes' patterns, and names that the operator chose. A value of a
    client's, such as a path or a session's id, never becomes one.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = self._counter(
            "vla_requests",
            "Requests and messages, by how they were answered.",
            *("protocol", "route", "status", "client", "class"),
        )
        self._refusals = self._counter(
            "vla_refusals", "Requests and messages that were refused, by error code.", "protocol", "code", "client"
        )
        self._request_seconds = self._histogram(
            "vla_request_seconds", "From a request's arrival to the end of its reply.", "protocol", "route"
        )
        self._step_seconds = self._histogram(
            "vla_step_seconds", "From an observation that has been read to its action.", "protocol"
        )
        self._stage_seconds = self._histogram("vla_stage_seconds", "Parts of a request.", "stage", "model")
        self._deadline_misses = self._counter(
            "vla_deadline_misses", "Requests that had no answer when their deadline passed.", "protocol"
        )
        self._dropped_steps = self._counter(
            "vla_dropped_steps", "Control steps of sessions without an action of their own.", "reason"
        )
        self._batch_size = Histogram(
            "vla_batch_size", "Requests that ran together on the device.", ["model"], buckets=BATCH_SIZES, **self._here
        )
        self._worker_restarts = self._counter(
            "vla_scene_worker_restarts", "Scene workers that were replaced, by reason.", "reason"
        )
        self._worker_seconds = self._counter("vla_scene_worker_busy_seconds", "Time that scene workers spent on jobs.")
        self._scene_lookups = self._counter(
            "vla_scene_lookups", "Scenes that a worker had compiled already (hit), or had to (miss).", "result"
        )

        self._begin_at_zero()

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request or a message of the current protocol and client."""
        protocol = current_protocol.get()
        self._requests.labels(protocol, route, str(status), _client_label(), current_priority.get()).inc()
        self._request_seconds.labels(protocol, route).observe(seconds)

    def refused(self, error: VLAError) -> None:
        """Count an error that a client got."""
        protocol = current_protocol.get()
        self._refusals.labels(protocol, error.code, _client_label()).inc()
        if isinstance(error, DeadlinePassed):
            self._deadline_misses.labels(protocol).inc()

    def step_answered(self, seconds: float) -> None:
        """Count a control step, or a prediction without a session, that has its action."""
        self._step_seconds.labels(current_protocol.get()).observe(seconds)

    def steps_dropped(self, reason: str, num: int = 1) -> None:
        """Count control steps that get no action: `superseded` by a newer one, or `skipped` by the client."""
        self._dropped_steps.labels(reason).inc(num)

    def stage(self, stage: str, seconds: float, model: str = "") -> None:
        """Measure a part of a request; `model` if it is one's."""
        self._stage_seconds.labels(stage, model).observe(seconds)

    def batch(self, model: str, size: int) -> None:
        """Count requests that ran together on the device."""
        self._batch_size.labels(model).observe(size)

    def worker_replaced(self, reason: str) -> None:
        """Count a scene worker that ended."""
        self._worker_restarts.labels(reason).inc()

    def worker_job(self, seconds: float, *, has_cached: bool) -> None:
        """Count a job of a scene worker, and whether the worker had the scene compiled."""
        self._worker_seconds.inc(seconds)
        self._scene_lookups.labels("hit" if has_cached else "miss").inc()

    def exposition(self, accept: str, gauges: Iterable[Metric]) -> tuple[bytes, str]:
        """Return all metrics as text and its content type: OpenMetrics if `accept` asks for it.

        Takes milliseconds: not for the event loop.
        """
        encode, content_type = choose_encoder(accept)
        return encode(_Families(self.registry, gauges)), content_type

    def _begin_at_zero(self) -> None:
        """Have series before their first event: Prometheus sees no increase in a series that begins at one."""
        for reason in RESTART_REASONS:
            self._worker_restarts.labels(reason)
        for reason in DROP_REASONS:
            self._dropped_steps.labels(reason)
        for protocol in PROTOCOLS:
            self._deadline_misses.labels(protocol)

    @property
    def _here(self) -> dict[str, Any]:
        return {"registry": self.registry}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, **self._here)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=SECONDS, **self._here)


class _Families:
    """What is counted and what was read, as the encoders take it."""

    def __init__(self, registry: CollectorRegistry, gauges: Iterable[Metric]):
        self._registry, self._gauges = registry, gauges

    def collect(self) -> Iterator[Metric]:
        """Return all families, without when each series began, which would double the text."""
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
        yield from self._gauges


def gauge(name: str, text: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    """Return what was read now, by the values of its labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def counter(name: str, text: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    """Return what somebody else has counted, by the values of its labels."""
    family = CounterMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _client_label() -> str:
    """Return the name of the client's key, which the operator chose; addresses have no bound."""
    client = current_client.get()
    return client if client.startswith(_KEY_PREFIX) else ""

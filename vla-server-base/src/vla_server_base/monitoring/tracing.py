"""Traces for OpenTelemetry: the extra `otel`, on if OTEL_EXPORTER_OTLP_ENDPOINT is set."""

import os
import time
from collections.abc import Mapping, Sequence

from vla_server_base.config import ConfigError
from vla_server_base.extras import how_to_install
from vla_server_base.monitoring.traceparent import TRACEPARENT

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Link, Span, SpanKind, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigError("OTEL_EXPORTER_OTLP_ENDPOINT: traces need OpenTelemetry", hint=how_to_install("otel")) from error

_FLUSH_MS = 2000
Attributes = Mapping[str, str | int | float | bool]


class Tracing:
    """Makes spans and sends them, on a separate thread, to the collector that the `OTEL_*` variables name."""

    def __init__(self, version: str):
        own = {"service.version": version}
        if "OTEL_SERVICE_NAME" not in os.environ and "service.name=" not in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            own["service.name"] = "vla-servers"
        # Not the global provider: two apps of a process, and a program that traces itself, stay apart.
        self._provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("vla_server_base", version)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, traceparent: str | None, seconds_ago: float) -> Span:
        """Begin the span of a request that came `seconds_ago`, in the trace of a `traceparent` or in a new one."""
        carrier = {TRACEPARENT: traceparent} if traceparent else {}
        return self._tracer.start_span(
            name,
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=time.time_ns() - round(1e9 * seconds_ago),
        )

    def record(
        self, parent: Span, name: str, ended_ns: int, seconds: float, attributes: Attributes, links: Sequence[Link] = ()
    ) -> None:
        """Add a part of a request, which has ended."""
        if parent.get_span_context().trace_flags.sampled:
            span = self._tracer.start_span(
                name,
                context=set_span_in_context(parent),
                attributes=attributes,
                links=links,
                start_time=ended_ns - round(1e9 * seconds),
            )
            span.end(ended_ns)

    def link_to(self, span: Span) -> Link:
        """Return a link to a span."""
        return Link(span.get_span_context())

    def trace_id(self, span: Span) -> str:
        """Return the id of a span's trace, as `traceparent` has it."""
        return f"{span.get_span_context().trace_id:032x}"

    def close(self) -> None:
        """Send what is left, for a bounded time, and end the thread; not for the event loop."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()

"""RunningRequest: a request or a message, measured and traced from its arrival to its reply."""

import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vla_server_base.errors import VLAError
from vla_server_base.monitoring.metrics import Metrics
from vla_server_base.monitoring.traceparent import trace_id_of, valid_traceparent
from vla_server_base.request_context import current_client, current_protocol, current_request_id, current_trace_id

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span

    from vla_server_base.monitoring.tracing import Tracing

_CLIENT_GONE = 499
"""As nginx counts requests whose client went away before the answer."""

current_request: ContextVar["RunningRequest | None"] = ContextVar("current_request", default=None)
"""The request that this task works on; tasks and threads of one request share it."""


class RunningRequest:
    """A request from its arrival to its reply: `end` it once, or use it in a `with` block.

    Where a message may name its trace, its span begins when that is known, in `continue_trace`.
    """

    def __init__(self, metrics: Metrics, tracing: "Tracing | None", route: str, traceparent: object = None):
        self._metrics, self._tracing = metrics, tracing
        self.route = route
        self.seconds = 0.0
        """How long it took, once it has ended."""
        self.session: str | None = None
        """The session of which it is a step, once that is known."""
        self.refusal: VLAError | None = None
        """The error that the client gets, if it gets one."""
        self.attributes: dict[str, str | int | float | bool] = {}
        """Of its span."""
        self._started = time.perf_counter()
        self._has_ended = False
        self._span: Span | None = None
        self._parts: list[tuple[str, int, float, Mapping[str, Any]]] = []
        """Those that ended before the span began."""
        self._traceparent = valid_traceparent(traceparent)
        self._trace_id = trace_id_of(self._traceparent)

    def resume(self) -> None:
        """Have this task, and those that it starts, work on this request."""
        current_request.set(self)
        current_trace_id.set(self._trace_id)

    def continue_trace(self, traceparent: str | None = None) -> None:
        """Begin its span, in the trace that it names itself, or else in its connection's or a new one."""
        if self._span is not None:
            return
        self._traceparent = traceparent or self._traceparent
        self._trace_id = trace_id_of(self._traceparent)
        if self._tracing is not None:
            self._span = self._tracing.begin(self.route, self._traceparent, time.perf_counter() - self._started)
            self._trace_id = self._tracing.trace_id(self._span)
            for name, ended_ns, seconds, attributes in self._parts:
                self._tracing.record(self._span, name, ended_ns, seconds, attributes)
        current_trace_id.set(self._trace_id)

    def record(
        self,
        name: str,
        seconds: float,
        attributes: Mapping[str, Any] | None = None,
        links: "Sequence[Link]" = (),
        *,
        ended_s_ago: float = 0.0,
    ) -> None:
        """Add a part of it to its trace: one that took `seconds`, and has just ended."""
        if self._tracing is None:
            return
        ended_ns = time.time_ns() - round(1e9 * ended_s_ago)
        if self._span is None:
            self._parts.append((name, ended_ns, seconds, attributes or {}))
        else:
            self._tracing.record(self._span, name, ended_ns, seconds, attributes or {}, links)

    def links(self) -> "list[Link]":
        """Return a link to its span, if it has one."""
        return [] if self._tracing is None or self._span is None else [self._tracing.link_to(self._span)]

    def __enter__(self) -> "RunningRequest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(200 if error is None else _CLIENT_GONE)

    def refuse(self, error: VLAError) -> None:
        """Count it as refused."""
        self.refusal = error
        self.end(error.status)

    def end(self, status: int) -> None:
        """Count it, with the status of its refusal if it has one, and end its span."""
        if self._has_ended:
            return
        self._has_ended = True
        self.seconds = time.perf_counter() - self._started
        if self.refusal is not None:
            status = self.refusal.status
            self._metrics.refused(self.refusal)
        self._metrics.answered(self.route, status, self.seconds)
        self._end_span(status)

    def _end_span(self, status: int) -> None:
        self.continue_trace()
        if self._span is None:
            return
        protocol = current_protocol.get()
        self._span.update_name(f"{protocol} {self.route}")
        known = {
            "vla.protocol": protocol,
            "vla.request_id": current_request_id.get(),
            "vla.session": self.session,
            "client.address": current_client.get(),
            "http.route": self.route if protocol == "http" else None,
            "http.response.status_code": status,
            "error.type": self.refusal.code if self.refusal else None,
            **self.attributes,
        }
        self._span.set_attributes({name: value for name, value in known.items() if value is not None})
        self._span.end()

"""The trace in which the robot's program is, for the server to continue."""

import sys


def trace_fields() -> dict[str, str]:
    """Return W3C's `traceparent` of the current OpenTelemetry span, as a field of a message; empty without one.

    A program with a current span has imported OpenTelemetry; this package does not need it.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"}

"""W3C's `traceparent`, by which a client says which trace its request belongs to (https://www.w3.org/TR/trace-context)."""

import re
from typing import Any

TRACEPARENT = "traceparent"
"""The header over HTTP, the field of a message, the key of gRPC's metadata."""

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.{0,200})?")


def valid_traceparent(value: Any) -> str | None:
    """Return what a client sent if it has the form; another value counts as none, as section 3.2 has it."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value if isinstance(value, str) and _FORM.fullmatch(value) else None


def trace_id_of(traceparent: str | None) -> str:
    """Return the id of the trace that a valid `traceparent` names; "-" without one."""
    return "-" if traceparent is None else traceparent[3:35]

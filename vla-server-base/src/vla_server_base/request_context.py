"""The request that a task answers: its id, its client and its session, for replies, log records and fair queues."""

import logging
import urllib.parse
import uuid
from contextvars import ContextVar
from typing import Literal

Priority = Literal["robot", "human", "batch"]
"""Whose request it is, the most urgent first: a robot's, a person's, or an evaluation's."""

_MAX_LOGGED_PATH_CHARS = 200

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")
"""The id of the request that this task answers; "-" outside a request."""

current_client: ContextVar[str] = ContextVar("current_client", default="-")
"""Who the client is: `key:NAME` where the server has API keys, else the network address of the connection's peer.

"-" outside a request. Clients that must not starve or overhear each other differ in it: it is never the value of an
unchecked header.
"""

current_address: ContextVar[str] = ContextVar("current_address", default="-")
"""The network address of the connection's peer, without its port, for the log; "-" outside a request."""

current_priority: ContextVar[Priority] = ContextVar("current_priority", default="robot")
"""How urgent the request is."""

current_rate: ContextVar[float | None] = ContextVar("current_rate", default=None)
"""How many requests a second the client may send; None for the server's own limit."""

current_deadline: ContextVar[float | None] = ContextVar("current_deadline", default=None)
"""When the answer becomes useless, by `time.monotonic`; None for a request without a deadline."""

current_session: ContextVar[str] = ContextVar("current_session", default="-")
"""The session that the request is a step of; "-" if it has no session, or the session is not known yet."""

current_protocol: ContextVar[str] = ContextVar("current_protocol", default="http")
"""Whose protocol the client speaks: `http` for `/predict`, else the project's name, such as `openpi`."""

current_trace_id: ContextVar[str] = ContextVar("current_trace_id", default="-")
"""The trace that the request belongs to, as W3C's `traceparent` has it; "-" if there is none."""


def begin_request(request_id: str | None = None, client: str | None = None) -> str:
    """Begin a request in this task and return its id, which is a new one where the client sent none.

    `client` is the network address, which identifies the client until a key does. Without it the task keeps its client,
    as a connection does from message to message.
    """
    request_id = request_id or uuid.uuid4().hex
    current_request_id.set(request_id)
    if client is not None:
        current_client.set(client)
        current_address.set(client)
    return request_id


def client_fields() -> str:
    """Return who the client is, as a log line has it; the address is its own field where a key says who it is."""
    client, address = current_client.get(), current_address.get()
    return f"client={client}" if address in (client, "-") else f"client={client} address={address}"


def request_fields() -> dict[str, str]:
    """Return what is known of this task's request, for the log; empty outside a request."""
    if current_request_id.get() == "-":
        return {}
    client, address = current_client.get(), current_address.get()
    fields = {
        "request_id": current_request_id.get(),
        "client": client,
        "address": "-" if address == client else address,
        "key": client.removeprefix("key:") if client.startswith("key:") else "-",
        "session": current_session.get(),
        "protocol": current_protocol.get(),
        "trace_id": current_trace_id.get(),
    }
    return {name: value for name, value in fields.items() if value != "-"}


class RequestIdFilter(logging.Filter):
    """Adds `request_id` to every record of a handler, for formats such as `%(request_id)s`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id; every record passes."""
        record.request_id = current_request_id.get()
        return True


def logged_path(path: str) -> str:
    """Return a path as a log line has it, percent-encoded and cut to a length."""
    return urllib.parse.quote(path)[:_MAX_LOGGED_PATH_CHARS]

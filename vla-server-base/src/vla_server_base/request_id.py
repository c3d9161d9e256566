"""The id of the request that is being answered: its client is told it, and every log line about it has it."""

import uuid
from contextvars import ContextVar

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")
"""Of the request that this task is about; "-" where there is none."""


def begin_request(request_id: str | None = None) -> str:
    """Note for this task that a request begins, and return its id: a new one where it brings none."""
    request_id = request_id or uuid.uuid4().hex
    current_request_id.set(request_id)
    return request_id

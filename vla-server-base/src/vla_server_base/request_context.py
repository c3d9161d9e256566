"""The request that is being answered: its id, which its client and every log line are told, and who asks."""

import uuid
from contextvars import ContextVar

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")
"""Of the request that this task is about; "-" where there is none."""

current_client: ContextVar[str] = ContextVar("current_client", default="-")
"""The network address that the request of this task came from, without its port; "-" where there is none.

It is the connection's own peer, never a header's word: clients that must not starve or overhear each other are told
apart by it.
"""

current_session: ContextVar[str] = ContextVar("current_session", default="-")
"""The session that the request of this task is a turn of; "-" where it is none, or not known yet."""


def begin_request(request_id: str | None = None, client: str | None = None) -> str:
    """Note for this task that a request begins, and return its id: a new one where it brings none.

    Without `client` the task goes on with the client that it had, as a connection does from message to message.
    """
    request_id = request_id or uuid.uuid4().hex
    current_request_id.set(request_id)
    if client is not None:
        current_client.set(client)
    return request_id

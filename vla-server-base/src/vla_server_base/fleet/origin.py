"""Where a request that goes to a model's replica comes from: what its queue there has to know."""

import time
from dataclasses import dataclass

from vla_server_base.request_context import (
    Priority,
    current_client,
    current_deadline,
    current_priority,
    current_protocol,
    current_request_id,
    current_session,
    current_trace_id,
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A request's context on its way to another process.

    `deadline_s` is the time that is left: machines' clocks differ. `model` is the `fingerprint` of the model for which
    the request was read.
    """

    model: str
    request_id: str
    client: str
    session: str
    protocol: str
    trace_id: str
    priority: Priority
    deadline_s: float | None

    @classmethod
    def current(cls, model: str) -> "Origin":
        """Return the context of the present task's request."""
        deadline = current_deadline.get()
        return cls(
            model=model,
            request_id=current_request_id.get(),
            client=current_client.get(),
            session=current_session.get(),
            protocol=current_protocol.get(),
            trace_id=current_trace_id.get(),
            priority=current_priority.get(),
            deadline_s=None if deadline is None else deadline - time.monotonic(),
        )

    def enter(self) -> None:
        """Have the present task be of this request."""
        current_request_id.set(self.request_id)
        current_client.set(self.client)
        current_session.set(self.session)
        current_protocol.set(self.protocol)
        current_trace_id.set(self.trace_id)
        current_priority.set(self.priority)
        current_deadline.set(None if self.deadline_s is None else time.monotonic() + self.deadline_s)

"""The errors of the client and of everything that the server shares with it; one tree.

VLAError                     500  internal
├── RequestError             422  invalid_request
│   ├── ProtocolError        422  protocol     (a message does not follow its protocol)
│   └── Unauthorized         401  unauthorized (no API key, or none that is valid at this server)
├── PolicyError                   the code that the server sent, such as superseded or overloaded
│   └── DeadlineExceeded          deadline_exceeded  (no answer before the deadline)
├── SessionLost                   session_lost       (the server has forgotten the episode)
├── Unreachable                   unreachable        (no answer from the server; also a ConnectionError)
└── ObservationError              observation        (an observation that cannot be sent; also a ValueError)

`vla_server_base.errors` adds the server's errors. Status and code are those of docs/http.md.
"""

import re
from typing import Any, Optional

# The format that `write_error` of `vla_server_base.protocols.openpi` writes.
_ERROR_TEXT = re.compile(
    r"(?P<code>[a-z][a-z0-9_]*): (?P<message>.*?)(?: \(request_id (?P<request_id>[^()\s]*)\))?", flags=re.DOTALL
)


class VLAError(Exception):
    """An error that a client may see: a code for programs, a sentence for people, and a hint that says what to do."""

    status = 500
    code = "internal"

    def __init__(self, message: str, *, hint: str):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> Any:
        # Errors cross processes; what their constructors take is not in `args`.
        return _restored, (type(self), self.args), self.__dict__

    def as_sentence(self) -> str:
        """Return the message and the hint."""
        return f"{self.message}; {self.hint}"

    def as_text(self, request_id: str) -> str:
        """Return code, message, hint and request id in one line, for clients that take text."""
        return f"{self.code}: {self.as_sentence()} (request_id {request_id})"


def _restored(kind: type[VLAError], arguments: tuple[Any, ...]) -> VLAError:
    return kind.__new__(kind, *arguments)


class RequestError(VLAError):
    """The request cannot be answered as it is."""

    status = 422
    code = "invalid_request"


class ProtocolError(RequestError):
    """A message that does not follow its protocol."""

    code = "protocol"


class Unauthorized(RequestError):
    """The request has no API key, or none that is valid at this server."""

    status = 401
    code = "unauthorized"


class PolicyError(VLAError):
    """The server sent an error instead of an answer; the connection and the session remain usable.

    `message` includes the server's hint. `request_id` identifies the request in the server's log; it is None if the
    server sent none.
    """

    def __init__(self, text: str, *, hint: str = "docs/http.md lists the error codes"):
        super().__init__(text, hint=hint)
        match = _ERROR_TEXT.fullmatch(text)
        self.code: str = match["code"] if match else "unknown"
        self.message: str = match["message"] if match else text
        self.request_id: Optional[str] = match["request_id"] if match else None


class DeadlineExceeded(PolicyError):
    """No answer came before the deadline, by the server's clock or by the client's. A later answer is dropped."""

    def __init__(self, text: str):
        super().__init__(text, hint="hold still and act on a new image; docs/performance.md says which rate to ask for")


def error_from_text(text: str) -> VLAError:
    """Return the error that a server's text describes."""
    error = PolicyError(text)
    if error.code == Unauthorized.code:
        return refused_key(error.message)
    return DeadlineExceeded(text) if error.code == "deadline_exceeded" else error


def refused_key(reason: str) -> Unauthorized:
    """Return the error for a client whose key a server refuses, with the server's reason."""
    hint = "give a valid key: Policy(url, api_key=...), or the variable VLA_API_KEY"
    return Unauthorized(f"the server refuses the API key: {reason}", hint=hint)


class SessionLost(VLAError):
    """The server has forgotten the session: the window of this episode and its action chunk are gone."""

    code = "session_lost"


class Unreachable(VLAError, ConnectionError):
    """No answer came for as long as the client tried; the message says what it tried."""

    code = "unreachable"


class ObservationError(VLAError, ValueError):
    """An observation that cannot be sent."""

    code = "observation"

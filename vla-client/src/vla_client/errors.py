"""What a robot's end of a policy server can meet, in the tree of `vla_server_base.errors`.

VLAError
├── PolicyError        what the server says instead of an answer; `code` tells `superseded` from `overloaded`
│   └── Late           no answer before the deadline, whoever noticed
├── SessionLost        the server has forgotten this episode
├── Unreachable        no answer for as long as it was tried; a ConnectionError too
└── ObservationError   what cannot be sent; a ValueError too
"""

import re

from vla_server_base.errors import VLAError

# As `protocols.openpi.write_error` writes it.
_TOLD = re.compile(
    r"(?P<code>[a-z][a-z0-9_]*): (?P<message>.*?)(?: \(request_id (?P<request_id>[^)]*)\))?", flags=re.DOTALL
)


class PolicyError(VLAError):
    """What the server said instead of an answer; the connection and the session go on.

    `message` has the server's hint in it; `request_id`, None where it named none, finds it in the server's log.
    """

    def __init__(self, text: str, *, hint: str | None = None):
        super().__init__(text, hint=hint)
        told = _TOLD.fullmatch(text)
        self.code: str = told["code"] if told else "unknown"
        self.message: str = told["message"] if told else text
        self.request_id: str | None = told["request_id"] if told else None


class Late(PolicyError):
    """No answer came before the deadline, as the server says or was found here; one that comes later is dropped."""

    def __init__(self, text: str):
        super().__init__(
            text, hint="hold still, and act on a new picture; docs/performance.md has which rate to ask for"
        )


def error_from_text(text: str) -> PolicyError:
    """Return what a server's text says as an error."""
    error = PolicyError(text)
    return Late(text) if error.code == "late" else error


class SessionLost(VLAError):
    """The server has forgotten the session: what it had seen of this episode, and its chunk, are gone."""

    code = "session_lost"


class Unreachable(VLAError, ConnectionError):
    """There was no answer for as long as it was tried; the message says what was."""

    code = "unreachable"


class ObservationError(VLAError, ValueError):
    """What cannot be sent as an observation."""

    code = "observation"

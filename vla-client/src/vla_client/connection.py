"""One WebSocket connection to a policy server."""

import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, Optional, Union

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vla_client import background
from vla_client.credentials import Credentials
from vla_client.deadline import Deadline
from vla_client.errors import DeadlineExceeded, ObservationError, ProtocolError, error_from_text
from vla_client.message_pack import pack, unpack
from vla_client.metadata import metadata_from_greeting

_CLOSE_TIMEOUT_S = 1.0
_TOO_BIG = 1009

_LATE_ANSWER_S = 1.0
"""How long the next step waits for a late answer to the step before, at most half of its own time.

The server reports a passed deadline at once, so a connection that is silent for longer than this is dead.
"""


class Connection:
    """A connection that sends one observation at a time and receives its answer.

    Raises:
        OSError, WebSocketException: the connection failed, the server refused it, or no greeting came in time.
        ProtocolError: the other end is not a policy server.
    """

    def __init__(self, url: str, credentials: Credentials, *, connect_timeout_s: float, greeting_timeout_s: float):
        self.is_open = True
        self.last_answer_at: Optional[float] = None
        """A time of `time.monotonic`."""
        self._is_answer_due = False
        """Whether the answer to the last message has not come yet."""
        self._closing = ExitStack()
        # The server accepts uncompressed frames, and compressing images takes longer than sending them.
        opened = connect(
            url,
            additional_headers=credentials.headers,
            ssl=credentials.tls(url),
            compression=None,
            max_size=None,
            open_timeout=connect_timeout_s,
            close_timeout=_CLOSE_TIMEOUT_S,
        )
        self._socket = self._closing.enter_context(opened)
        try:
            self.metadata = metadata_from_greeting(_greeting(self._socket.recv(greeting_timeout_s)))
        except BaseException:
            self.close()
            raise

    def ask(self, message: Mapping[str, Any], deadline: Deadline, timeout_s: float) -> dict[str, Any]:
        """Return the answer to a message. Every error except PolicyError and DeadlineExceeded closes the connection.

        Raises:
            DeadlineExceeded: the deadline passed. If the message was not sent completely, the connection is closed.
            PolicyError: the server sent an error.
            Unauthorized: the key was revoked or has expired.
            ObservationError: the message cannot be encoded, or is larger than the server allows.
            OSError, WebSocketException: the connection broke, or no answer came in `timeout_s`.
        """
        frame = _packed(message)
        try:
            self._drop_late_answer(min(deadline.left_s / 2, _LATE_ANSWER_S))
            self._send(frame, deadline, timeout_s)
            answer = self._received(deadline, timeout_s)
            content = answer if isinstance(answer, str) else unpack(answer)
        except ConnectionClosed as closed:
            self.drop()
            if closed.rcvd is not None and closed.rcvd.code == _TOO_BIG:
                raise ObservationError(
                    f"the observation has {len(frame)} bytes, more than the server's limit",
                    hint="send smaller images, or raise VLA_MAX_BODY_MB of the server",
                ) from closed
            raise
        except DeadlineExceeded:
            raise
        except BaseException:
            # A late answer on this connection would be mistaken for the answer to another message.
            self.drop()
            raise
        self.last_answer_at = time.monotonic()
        if isinstance(content, str):
            raise error_from_text(content)
        return content

    def close(self) -> None:
        """Close with a closing handshake of limited time."""
        self.is_open = False
        self._closing.close()

    def drop(self) -> None:
        """Close at once without a closing handshake, which a broken connection would not finish."""
        with suppress(OSError):
            # Not `self._socket.socket.shutdown`: a TLS socket does not allow it while another thread uses the socket.
            socket.socket.shutdown(self._socket.socket, socket.SHUT_RDWR)
        self.close()

    def _drop_late_answer(self, timeout_s: float) -> None:
        """Receive and drop the answer to the last message if it has not come yet."""
        if self._is_answer_due:
            self._socket.recv(timeout_s)
            self._is_answer_due = False

    def _send(self, frame: bytes, deadline: Deadline, timeout_s: float) -> None:
        # `send` has no timeout: without a network it returns when the operating system gives up the connection.
        sending = background.start(lambda: self._socket.send(frame))
        if not background.is_done_within(sending, min(deadline.left_s, timeout_s)):
            self.drop()
            deadline.check("the observation is still being sent")
            raise TimeoutError("timed out while sending")
        sending.result()
        self._is_answer_due = True

    def _received(self, deadline: Deadline, timeout_s: float) -> Union[bytes, str]:
        try:
            answer = self._socket.recv(min(deadline.left_s, timeout_s))
        except TimeoutError:
            deadline.check("the server has not answered yet")
            raise
        self._is_answer_due = False
        return answer


def end_session(url: str, credentials: Credentials, session_id: str) -> None:
    """Try once to end a session; the server forgets idle sessions anyway."""
    parts = urllib.parse.urlsplit(url)
    path = f"{parts.path.rstrip('/')}/sessions/{urllib.parse.quote(session_id, safe='')}"
    address = parts._replace(scheme=parts.scheme.replace("ws", "http"), path=path).geturl()
    request = urllib.request.Request(address, method="DELETE", headers=credentials.headers)
    try:
        urllib.request.urlopen(request, timeout=_CLOSE_TIMEOUT_S, context=credentials.tls(address)).close()
    except urllib.error.HTTPError as refused:
        refused.close()
    except OSError:
        pass


def _packed(message: Mapping[str, Any]) -> bytes:
    try:
        return pack(message)
    except (NotImplementedError, TypeError, ValueError, OverflowError) as error:
        raise ObservationError(
            f"the observation cannot be sent: {error}", hint="send numpy arrays, numbers, text, lists and maps"
        ) from error


def _greeting(frame: Union[bytes, str]) -> dict[str, Any]:
    if isinstance(frame, str):
        raise ConnectionRefusedError(frame)
    content = unpack(frame)
    if not isinstance(content, dict):
        raise ProtocolError(
            f"the server's greeting: expected a map, got {type(content).__name__}",
            hint="check that the address is that of a vla-server",
        )
    return content

"""One WebSocket connection to a policy server, from its greeting on."""

import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vla_client.background import Errand
from vla_client.deadline import Deadline
from vla_client.errors import Late, ObservationError, error_from_text
from vla_client.message_pack import pack, unpack
from vla_client.metadata import metadata_from_greeting
from vla_server_base.errors import ProtocolError

_CLOSE_TIMEOUT_S = 1.0
_TOO_BIG = 1009

_LATE_ANSWER_S = 1.0
"""How long the next turn waits for an answer that is late, at most half of its own time.

The server says that it is late when it is, so that after this the connection is held to be dead.
"""


class Connection:
    """A connection on which one observation after the other is answered.

    Raises:
        OSError, WebSocketException: there is none, no greeting in time, or the server takes no more.
        ProtocolError: what answers is no policy server.
    """

    def __init__(self, url: str, *, connect_timeout_s: float, greeting_timeout_s: float):
        self.is_open = True
        self.last_answer: float | None = None
        """When it came, of `time.monotonic`."""
        self._is_owed = False
        """Whether an answer is still to come, to a message that it came too late for."""
        self._closing = ExitStack()
        # The server takes frames as they are, and deflating pictures takes longer than sending them.
        opened = connect(
            url, compression=None, max_size=None, open_timeout=connect_timeout_s, close_timeout=_CLOSE_TIMEOUT_S
        )
        self._socket = self._closing.enter_context(opened)
        try:
            self.metadata = metadata_from_greeting(_greeting(self._socket.recv(greeting_timeout_s)))
        except BaseException:
            self.close()
            raise

    def ask(self, message: Mapping[str, Any], deadline: Deadline, timeout_s: float) -> dict[str, Any]:
        """Return the answer to a message. After anything but an answer, PolicyError or Late the connection is closed.

        Raises:
            Late: the deadline passed; the connection is closed too if the message had not gone out by then.
            PolicyError: the server says why there is none.
            ObservationError: the message holds what cannot be sent, or is too large.
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
                    f"an observation of {len(frame)} bytes is more than the server takes",
                    hint="send smaller pictures; the server's VLA_MAX_BODY_MB raises the limit",
                ) from closed
            raise
        except Late:
            raise
        except BaseException:
            # What comes late on this connection would be taken for the answer to another message.
            self.drop()
            raise
        self.last_answer = time.monotonic()
        if isinstance(content, str):
            raise error_from_text(content)
        return content

    def close(self) -> None:
        """Say goodbye, without waiting long for the server's."""
        self.is_open = False
        self._closing.close()

    def drop(self) -> None:
        """Close it without a word, which takes no time, also where nothing passes on it any more."""
        with suppress(OSError):
            # Not `self._socket.socket.shutdown`, which of a TLS socket is not to be called while others use it.
            socket.socket.shutdown(self._socket.socket, socket.SHUT_RDWR)
        self.close()

    def _drop_late_answer(self, timeout_s: float) -> None:
        """Take the answer that is owed off the connection. Where it does not come, nothing else will."""
        if self._is_owed:
            self._socket.recv(timeout_s)
            self._is_owed = False

    def _send(self, frame: bytes, deadline: Deadline, timeout_s: float) -> None:
        # Sending has no timeout of its own: without a network it ends when the system gives the connection up.
        sending = Errand(lambda: self._socket.send(frame))
        if not sending.is_done_in(min(deadline.left_s, timeout_s)):
            self.drop()
            deadline.check("it is still being sent")
            raise TimeoutError("timed out while sending")
        sending.result()
        self._is_owed = True

    def _received(self, deadline: Deadline, timeout_s: float) -> bytes | str:
        try:
            answer = self._socket.recv(min(deadline.left_s, timeout_s))
        except TimeoutError:
            deadline.check("the server has not answered yet")
            raise
        self._is_owed = False
        return answer


def end_session(url: str, session_id: str) -> None:
    """End a session, if that can be done at once; else it is forgotten in time."""
    parts = urllib.parse.urlsplit(url)
    path = f"{parts.path.rstrip('/')}/sessions/{urllib.parse.quote(session_id, safe='')}"
    address = parts._replace(scheme=parts.scheme.replace("ws", "http"), path=path).geturl()
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=_CLOSE_TIMEOUT_S).close()
    except urllib.error.HTTPError as refused:
        refused.close()
    except OSError:
        pass


def _packed(message: Mapping[str, Any]) -> bytes:
    try:
        return pack(message)
    except (NotImplementedError, TypeError, ValueError, OverflowError) as error:
        raise ObservationError(
            f"the observation holds what cannot be sent ({error})", hint="numpy arrays, numbers and text can"
        ) from error


def _greeting(frame: bytes | str) -> dict[str, Any]:
    if isinstance(frame, str):
        raise ConnectionRefusedError(frame)
    content = unpack(frame)
    if not isinstance(content, dict):
        raise ProtocolError("the server's greeting is no map of named values")
    return content

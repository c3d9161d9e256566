"""One WebSocket connection to a policy server, from its greeting on."""

import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vla_server_base.client.errors import ObservationError, PolicyError
from vla_server_base.client.metadata import metadata_from_greeting
from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.message_pack import pack, unpack

_CLOSE_TIMEOUT_S = 1.0
_TOO_BIG = 1009


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

    def ask(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return the answer to a message. After anything but an answer or PolicyError the connection is closed.

        Raises:
            PolicyError: the server says why there is none.
            ObservationError: the message holds what cannot be sent, or is too large.
            OSError, WebSocketException: the connection broke, or no answer came in time.
        """
        frame = _packed(message)
        try:
            self._socket.send(frame)
            answer = self._socket.recv(timeout_s)
            content = answer if isinstance(answer, str) else unpack(answer)
        except ConnectionClosed as closed:
            self.close()
            if closed.rcvd is not None and closed.rcvd.code == _TOO_BIG:
                raise ObservationError(
                    f"an observation of {len(frame)} bytes is more than the server takes",
                    hint="send smaller pictures; the server's VLA_MAX_BODY_MB raises the limit",
                ) from closed
            raise
        except BaseException:
            # What comes late on this connection would be taken for the answer to another message.
            self.close()
            raise
        self.last_answer = time.monotonic()
        if isinstance(content, str):
            raise PolicyError(content)
        return content

    def close(self) -> None:
        """Say goodbye, without waiting long for the server's."""
        self.is_open = False
        self._closing.close()


def end_session(url: str, session_id: str) -> None:
    """End a session, if that can be done at once; else it is forgotten in time."""
    parts = urllib.parse.urlsplit(url)
    path = f"{parts.path.rstrip('/')}/sessions/{urllib.parse.quote(session_id, safe='')}"
    address = parts._replace(scheme=parts.scheme.replace("ws", "http"), path=path).geturl()
    # HTTPError and URLError among them.
    with suppress(OSError):
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=_CLOSE_TIMEOUT_S).close()


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

"""uvicorn's protocols, HTTP and WebSocket, with limits on all that a client may send or leave unsaid."""

import functools
import logging
import socket
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from vla_server_base.config import ServerConfig
from vla_server_base.errors import (
    BodyTooLarge,
    HeadTooLarge,
    Malformed,
    Overloaded,
    ProtocolError,
    RequestTimeout,
    Unavailable,
    VLAError,
)
from vla_server_base.request_context import begin_request, logged_path
from vla_server_base.server.error_replies import error_response, reason_of
from vla_server_base.server.in_flight import OpenBody
from vla_server_base.server.traffic import Line, Traffic

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 2**16
MAX_HEADERS = 128
MAX_AHEAD = 16
"""Requests that a client may send on one connection before it has the answer to the first."""
_FREE_PIECES, _LEAST_PIECE_BYTES = 1000, 2**8
"""How many chunks of one body may be small, and how large the others are on average: each costs a call."""
_FRAMES_AT_ONCE = 2**8
_PIECE_BYTES = 2**13
_MAX_BYTES_AFTER_CLOSE = 2**16
_LINGER_S = 10.0
_POLICY_VIOLATION, _TOO_BIG = 1008, 1009
# Service restart, and try again later (https://www.iana.org/assignments/websocket).
_CLOSE_CODES: Mapping[type[VLAError], int] = {Unavailable: 1012, Overloaded: 1013}
# A peer that vanished, by its kernel's silence; as the platform names them.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
# For what was sent and is not acknowledged, to which the above does not apply.
_UNACKNOWLEDGED_MS = {"TCP_USER_TIMEOUT": 60_000}
# What a kernel takes for a client that does not read is megabytes else, and minutes until that is noticed.
_UNSENT_BYTES = {"TCP_NOTSENT_LOWAT": 2**17}


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, whose parser is never given more of a head, or of a trailer, than it may have.

    The parser joins what comes of one header byte by byte of its length, so it is the bytes before it that are counted.
    What is refused is answered as any other request; what else the client sends is dropped for a while, or it would
    find its connection reset instead of the answer (RFC 9112, 9.6).
    """

    def __init__(self, *, traffic: Traffic, **made_by_uvicorn: Any):
        super().__init__(**made_by_uvicorn)
        self._traffic = traffic
        self._line: Line | None = None
        self._head_bytes = 0
        self._bytes_in_vain = 0
        self._num_pieces = 0.0
        self._is_in_head = False
        self._refusal: VLAError | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's have no common class
        """Begin, unless there are too many connections."""
        super().connection_made(transport)
        _have_kernel_look_after(transport)
        try:
            self._line = self._traffic.open(transport, self.client[0] if self.client else "-", self._give_up)
        except Overloaded as error:
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._traffic.close(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Give the parser a piece at a time, for as long as the request gets on."""
        for start in range(0, len(data), MAX_HEAD_BYTES):
            if self._refusal is not None or self.transport.is_closing():
                return
            now_in_charge: Any = self.transport.get_protocol()
            if now_in_charge is not self:
                now_in_charge.data_received(data[start:])
                return
            piece = data[start : start + MAX_HEAD_BYTES]
            self._bytes_in_vain += len(piece)
            super().data_received(piece)
            if self._bytes_in_vain >= MAX_HEAD_BYTES:
                self._refuse(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))

    def on_message_begin(self) -> None:
        """Begin with a head."""
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = self._bytes_in_vain = self._num_pieces = 0

    def on_url(self, url: bytes) -> None:
        """Take in a piece of the request line."""
        self._add_to_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header, or a trailer."""
        self._add_to_head(len(name) + len(value))
        if len(self.headers) == MAX_HEADERS:
            self._stop_parsing(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        if len(self.pipeline) >= MAX_AHEAD:
            self._stop_parsing(
                Malformed(f"more than {MAX_AHEAD} requests were sent before their replies", hint="wait for replies")
            )
        self._is_in_head = False
        self._bytes_in_vain = 0
        if self._line is not None:
            self._line.waits_since = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a piece of a body, of which a client that sends it byte by byte would make millions."""
        self._bytes_in_vain = 0
        self._num_pieces += 1 - len(body) / _LEAST_PIECE_BYTES
        if self._num_pieces > _FREE_PIECES:
            self._stop_parsing(Malformed("the body comes in too many small chunks", hint="send larger chunks"))
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        if self._line is not None and not self.pipeline:
            self._line.waits_since = self._traffic.now
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer what the parser does not take, or was kept from taking."""
        self._refuse(
            self._refusal
            or Malformed(
                "the request is not valid HTTP/1.1", hint="use an HTTP library, and http:// instead of https://"
            )
        )

    def _add_to_head(self, num_bytes: int) -> None:
        self._head_bytes += num_bytes
        if self._head_bytes > MAX_HEAD_BYTES:
            self._stop_parsing(HeadTooLarge(MAX_HEAD_BYTES, MAX_HEADERS))

    def _stop_parsing(self, error: VLAError) -> None:
        """Have `send_400_response` called, which is what uvicorn does of any exception in a callback."""
        self._refusal = error
        raise error

    def _give_up(self) -> None:
        """End a connection on which no request comes."""
        if self._is_in_head:
            hint = "send the request line and the headers at once; VLA_HEAD_TIMEOUT_S gives more time"
            self._refuse(RequestTimeout("the head of the request did not come in time", hint=hint))
        else:
            self.transport.close()

    def _refuse(self, error: VLAError) -> None:
        """Answer a request that the app does not get to see, and let the client read that."""
        self._refusal = error
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering and not self._is_in_head and not self.cycle.response_started:
            self.cycle.disconnected = True  # for the app, which had begun to read it
            self.cycle.message_event.set()
        elif is_answering:
            self.transport.close()  # in the midst of another answer
            return
        request_id = begin_request(client=self.client[0] if self.client else "-")
        logger.info("head refused client=%s%s", self.client, reason_of(error))
        self._traffic.monitor.metrics.refused(error)
        response = error_response(error, {"X-Request-Id": request_id, "Connection": "close"})
        phrase = HTTPStatus(error.status).phrase
        head = [f"HTTP/1.1 {error.status} {phrase}".encode(), *(b": ".join(each) for each in response.raw_headers)]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_S, self.transport.close)


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, which tell a client why its frame is refused, even while it still sends it.

    A socket closed on bytes that nobody read is reset, and the close frame is lost with it (RFC 9293, 3.10.4). So only
    our half is closed; what else comes is dropped unread, until the client closes too, or for uvicorn's close timeout.

    A client may be busy for minutes, with its simulator or its compiler in its event loop, and answer no ping, though
    its kernel answers for it: so it is the kernels that find out where a machine or a network is gone, in a minute.
    """

    def __init__(self, *, traffic: Traffic, **made_by_uvicorn: Any):
        super().__init__(**made_by_uvicorn)
        self._traffic = traffic
        self._line: Line | None = None
        self._unfinished: OpenBody | None = None
        self._num_frames = 0
        self._bytes_after_close = 0

    def connection_made(self, transport: Any) -> None:
        """Take over from HTTP."""
        super().connection_made(transport)
        _have_kernel_look_after(transport)
        self._line = self._traffic.of(transport)
        if self._line is not None:
            idle = Overloaded(
                "the connection is idle, and the server closed it for a new one",
                hint="connect again; VLA_MAX_CONNECTIONS raises the limit",
            )
            self._line.give_up = lambda: self._give_up(idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._traffic.close(self.transport)
        self._close_unfinished()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what comes; a message that is not whole yet takes room, and has its time."""
        self._num_frames = 0
        for start in range(0, len(data), _PIECE_BYTES):
            # After a close by the app there is the client's close frame to read, which ends the connection at once.
            self._bytes_after_close += min(len(data) - start, _PIECE_BYTES) if self.close_sent else 0
            if self._bytes_after_close <= _MAX_BYTES_AFTER_CLOSE:
                super().data_received(data[start : start + _PIECE_BYTES])
            if self._num_frames > _FRAMES_AT_ONCE and not self.close_sent:
                self._give_up(ProtocolError("too many small frames at once", hint="send each message in one frame"))
        if not (self.conn.reader.buffer or self.frames) or self.close_sent:
            self._close_unfinished()
            return
        if self._unfinished is None:
            begin_request(client=self.client[0] if self.client else "-")
            self._unfinished = self._traffic.bodies.open(self._give_up)
        self._unfinished.came(len(data))

    async def send(self, message: Any) -> None:
        """Send what the app says; a handshake that it answers with an error is at its end then, and no fault of its."""
        await self.writable.wait()
        if self.handshake_complete and self.close_sent:
            if message["type"] == "websocket.close":
                return
            raise ClientDisconnected  # by ourselves, while the app was busy
        await super().send(message)
        self._note_word()
        self.handshake_complete = self.handshake_complete or self.close_sent

    def shutdown(self) -> None:
        """End with the server: by 503 before the handshake, else by uvicorn's 1012."""
        if not self.handshake_complete and not self.close_sent:
            reason = "the server is shutting down"
            self.conn.send_response(self.conn.reject(HTTPStatus.SERVICE_UNAVAILABLE, reason))
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.handshake_complete = self.close_sent = True
        super().shutdown()

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message over."""
        self._num_frames += 1
        super().send_receive_event_to_app()
        self._note_word()
        self._close_unfinished()

    def handle_cont(self, event: Frame) -> None:
        """Take in a further frame of a message."""
        self._num_frames += 1
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping."""
        self._num_frames += 1
        super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Take in the answer to a ping."""
        self._num_frames += 1
        super().handle_pong(event)

    def handle_parser_exception(self) -> None:
        """Say why the frame is refused, once."""
        if self.close_sent:
            return
        refusal = self.conn.close_sent
        assert refusal is not None
        self.close_sent = True
        self._bytes_after_close = _MAX_BYTES_AFTER_CLOSE + 1
        self._log_refusal(refusal.code, refusal.reason)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": refusal.code, "reason": refusal.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def _give_up(self, error: VLAError) -> None:
        """End a conversation whose message does not come, or finds no room."""
        self._close_unfinished()
        code = _CLOSE_CODES.get(type(error), _POLICY_VIOLATION)
        self.frames = []
        self.conn.fail(code, error.message[:120])
        self.handle_parser_exception()

    def _note_word(self) -> None:
        if self._line is not None:
            self._line.quiet_since = self._traffic.now

    def _close_unfinished(self) -> None:
        if self._unfinished is not None:
            self._unfinished.close()
            self._unfinished = None

    def _log_refusal(self, code: int, reason: str) -> None:
        error = (
            BodyTooLarge(reason, hint="send smaller messages; VLA_MAX_BODY_MB raises the limit")
            if code == _TOO_BIG
            else ProtocolError(reason, hint="use a WebSocket library, which follows RFC 6455")
        )
        path, client = logged_path(self.scope["path"]), self.client[0] if self.client else "-"
        begin_request()
        logger.info("socket path=%s client=%s%s", path, client, reason_of(error))
        self._traffic.monitor.metrics.refused(error)


def uvicorn_settings(config: ServerConfig, traffic: Traffic) -> dict[str, Any]:
    """Return the settings of `uvicorn.Config`, by the names of its attributes.

    WebSocket frames are as large as bodies, are not compressed, and pings are a setting. The queue of the kernel
    is kept short: all connections that wait in it are accepted at once, and each one needs a file descriptor.
    """
    ping_s = config.websocket_ping_s or None
    return {
        "http_protocol_class": functools.partial(HttpProtocol, traffic=traffic),
        "ws_protocol_class": functools.partial(SocketProtocol, traffic=traffic),
        "ws_max_size": config.max_body_mb * 2**20,
        "ws_per_message_deflate": False,
        "ws_ping_interval": ping_s,
        "ws_ping_timeout": ping_s,
        "backlog": 100,
        "timeout_graceful_shutdown": config.shutdown_grace_s,
    }


def _have_kernel_look_after(transport: Any) -> None:
    wire = transport.get_extra_info("socket")
    if wire is not None and wire.family in (socket.AF_INET, socket.AF_INET6):
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (_KEEPALIVE | _UNACKNOWLEDGED_MS | _UNSENT_BYTES).items():
            if hasattr(socket, name):
                wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

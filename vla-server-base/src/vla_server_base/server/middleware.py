"""The edge of the service: who may ask, request ids, one log line per request, and the one form of every error."""

import asyncio
import contextlib
import logging
import re
import time
import urllib.parse
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vla_server_base.errors import Overloaded, Unavailable, UpgradeRequired, VLAError
from vla_server_base.request_context import begin_request, current_client, current_request_id
from vla_server_base.schemas.reply import ErrorBody, ErrorReply
from vla_server_base.server.origins import Origins
from vla_server_base.server.shutdown import Shutdown
from vla_server_base.server.traffic import Bodies
from vla_server_base.timing import ms_since

logger = logging.getLogger(__name__)

_NOT_IN_REQUEST_ID = re.compile(r"[^A-Za-z0-9._:-]")
_MAX_REQUEST_ID_CHARS = 64
_MAX_LOGGED_PATH_CHARS = 200
_MAX_LOGGED_REASON_CHARS = 500
# What nginx logs when the client went away before its answer.
_CLIENT_GONE = 499
_HEARING_OUT_S = 10.0
# What a server that is shutting down still answers: whether it is healthy, above all.
_READS = ("GET", "HEAD", "OPTIONS")
# Nobody's page may lay this server's own, transparent, over a button of its own.
_NO_FRAMES = {"X-Frame-Options": "DENY", "Content-Security-Policy": "frame-ancestors 'none'"}


class Edge:
    """ASGI middleware around everything: whatever is raised inside, what leaves is an error reply.

    A client that is answered before it has sent all of its body is heard out first, or it may find the connection reset
    instead of the answer. What it sends is dropped as it comes, and after 10 s the connection is closed nevertheless.
    """

    def __init__(self, app: ASGIApp, origins: Origins, bodies: Bodies):
        self._app, self._origins, self._bodies = app, origins, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        client = scope["client"][0] if scope.get("client") else "-"
        request_id = begin_request(_request_id(headers.get("x-request-id", "")), client)
        if scope["type"] == "websocket":
            await self._open_socket(scope, receive, send)
        else:
            state = scope.setdefault("state", {})
            state["request_id"] = request_id
            await self._answer(scope, receive, send)

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._origins.check("GET", Headers(scope=scope))
        except VLAError as error:
            await deny_socket(error, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        state, headers = scope["state"], Headers(scope=scope)
        request_id = state["request_id"]
        started = time.perf_counter()
        status = None
        body = _Body(headers, receive, self._bodies)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                reply_headers = MutableHeaders(scope=message)
                reply_headers["X-Request-Id"] = request_id
                if reply_headers.get("content-type", "").startswith("text/html"):
                    reply_headers.update(_NO_FRAMES)
                if not await body.heard_out():
                    reply_headers["Connection"] = "close"
            await send(message)

        try:
            self._origins.check(scope["method"], headers)
            with contextlib.ExitStack() as stack:
                if scope["method"] not in _READS:
                    stack.enter_context(_shutdown(scope).running())
                await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            status = _CLIENT_GONE
        except asyncio.CancelledError:
            if status is not None:
                raise
            # Cancelled since its body is given up, or by a shutdown that waits no longer; this answer is its end.
            state["refusal"] = error = body.refusal or Unavailable("the server is shutting down")
            body.listens = isinstance(error, Overloaded)
            await error_response(error, request_id)(scope, receive, send_with_id)
        except Exception as error:
            state["refusal"] = told = told_of(error, request_id)
            if status is not None:
                raise  # the reply has begun; all that is left is to break the connection
            await error_response(told, request_id)(scope, receive, send_with_id)
        finally:
            body.close()
            logger.info(
                "method=%s path=%s status=%s ms=%.1f client=%s request_id=%s%s",
                scope["method"],
                logged_path(scope["path"]),
                status,
                ms_since(started),
                current_client.get(),
                request_id,
                reason_of(state.get("refusal")),
            )


def _shutdown(scope: Scope) -> Shutdown:
    return scope["app"].state.service.shutdown


class _Body:
    """The body of a request, as far as it has come; it takes room until it is answered."""

    def __init__(self, headers: Headers, receive: Receive, bodies: Bodies):
        self.is_whole = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        self.refusal: VLAError | None = None
        self.listens = True
        # The client sends nothing until somebody asks for the body.
        self._is_held_back = headers.get("expect", "").lower() == "100-continue"
        self._receive = receive
        self._task = asyncio.current_task()
        self._counted = None if self.is_whole else bodies.open(self._give_up)

    async def receive(self) -> Message:
        self._is_held_back = False
        message = await self._receive()
        self.is_whole = not message.get("more_body", False)
        if self._counted is not None:
            self._counted.came(len(message.get("body", b"")), is_whole=self.is_whole)
        return message

    async def heard_out(self) -> bool:
        """Drop what is still to come, and return whether all of it came."""
        self.close()
        if self.listens and not (self.is_whole or self._is_held_back):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._drop(), _HEARING_OUT_S)
        return self.is_whole

    def close(self) -> None:
        if self._counted is not None:
            self._counted.close()
            self._counted = None

    def _give_up(self, error: VLAError) -> None:
        """End the request; what cancels it is told from a shutdown by the refusal."""
        assert self._task is not None, "a request is answered in a task"
        self.refusal = error
        self._task.cancel()

    async def _drop(self) -> None:
        while not self.is_whole:
            await self.receive()


async def deny_socket(error: VLAError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a WebSocket's handshake with an error, as any other request."""
    request_id = current_request_id.get()
    logger.info(
        "socket path=%s client=%s status=%d request_id=%s%s",
        logged_path(scope["path"]),
        current_client.get(),
        error.status,
        request_id,
        reason_of(error),
    )
    if "websocket.http.response" in scope.get("extensions", {}):
        await error_response(error, request_id, {"X-Request-Id": request_id})(scope, receive, send)
    else:
        await send({"type": "websocket.close"})


def told_of(error: Exception, request_id: str) -> VLAError:
    """Return what a client is told of an error, and log what went wrong with us.

    Why a request was refused is said where it is logged anyway: see `reason_of`.
    """
    if isinstance(error, VLAError):
        return error
    logger.error("request_id=%s failed", request_id, exc_info=error)
    return VLAError("something went wrong inside the server", hint="its log has the request_id")


def reason_of(refusal: VLAError | None) -> str:
    """Return what ends the log line of a request: why it was refused, on one line whatever a client has sent."""
    if refusal is None:
        return ""
    said = refusal.message
    if len(said) > _MAX_LOGGED_REASON_CHARS:
        said = f"{said[:_MAX_LOGGED_REASON_CHARS]}..."
    said = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in said)
    return f' code={refusal.code} reason="{said}"'


def logged_path(path: str) -> str:
    """Return an address as it stands in a log line, whatever a client has sent."""
    return urllib.parse.quote(path)[:_MAX_LOGGED_PATH_CHARS]


def refusal_response(request: Request, error: VLAError, headers: Mapping[str, str] | None = None) -> Response:
    """Return what a request is answered with that ends in `error`, which its log line then says."""
    request.state.refusal = error
    return error_response(error, request.state.request_id, headers)


def error_response(error: VLAError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return what `error` is answered with."""
    headers = dict(headers or {})
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, UpgradeRequired):
        headers["Upgrade"] = "websocket"
    reply = error_reply(error, request_id)
    return Response(reply.model_dump_json(), error.status, headers, "application/json")


def error_reply(error: VLAError, request_id: str) -> ErrorReply:
    """Return the one form of every error."""
    body = ErrorBody(code=error.code, message=error.message, hint=error.hint)
    return ErrorReply(error=body, request_id=request_id)


def _request_id(given: str) -> str:
    return _NOT_IN_REQUEST_ID.sub("", given)[:_MAX_REQUEST_ID_CHARS]

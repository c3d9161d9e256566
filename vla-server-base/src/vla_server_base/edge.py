"""The edge of the service: request ids, one log line per request, and the one form of every error."""

import asyncio
import contextlib
import logging
import re
import time
import urllib.parse
import uuid
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vla_server_base.errors import Unavailable, VLAError
from vla_server_base.replies.body import ErrorBody, ErrorReply
from vla_server_base.timing import ms_since

logger = logging.getLogger(__name__)

_NOT_IN_REQUEST_ID = re.compile(r"[^A-Za-z0-9._:-]")
_MAX_REQUEST_ID_CHARS = 64
_MAX_LOGGED_PATH_CHARS = 200
# What nginx logs when the client went away before its answer.
_CLIENT_GONE = 499
_HEARING_OUT_S = 10.0


class Edge:
    """ASGI middleware around everything: whatever is raised inside, what leaves is an error reply.

    A client that is answered before it has sent all of its body is heard out first, or it may find the connection reset
    instead of the answer. What it sends is dropped as it comes, and after 10 s the connection is closed nevertheless.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_headers = Headers(scope=scope)
        request_id = _request_id(request_headers.get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = None
        body = _Body(request_headers, receive)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                if not await body.heard_out():
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            status = _CLIENT_GONE
        except asyncio.CancelledError:
            if status is not None:
                raise
            # Cancelled by a shutdown that waits no longer; with this answer the request is at its end anyway.
            error = Unavailable("the server is shutting down")
            body.is_whole = True  # there is no time for what may be left of it
            await error_response(error, request_id)(scope, receive, send_with_id)
        except Exception as error:
            told = told_of(error, request_id)
            if status is not None:
                raise  # the reply has begun; all that is left is to break the connection
            await error_response(told, request_id)(scope, receive, send_with_id)
        finally:
            logger.info(
                "method=%s path=%s status=%s ms=%.1f client=%s request_id=%s",
                scope["method"],
                urllib.parse.quote(scope["path"])[:_MAX_LOGGED_PATH_CHARS],
                status,
                ms_since(started),
                scope["client"][0] if scope.get("client") else "-",
                request_id,
            )


class _Body:
    """The body of a request, as far as it has come."""

    def __init__(self, headers: Headers, receive: Receive):
        self.is_whole = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        # The client sends nothing until somebody asks for the body.
        self._is_held_back = headers.get("expect", "").lower() == "100-continue"
        self._receive = receive

    async def receive(self) -> Message:
        self._is_held_back = False
        message = await self._receive()
        self.is_whole = not message.get("more_body", False)
        return message

    async def heard_out(self) -> bool:
        """Drop what is still to come, and return whether all of it came."""
        if not (self.is_whole or self._is_held_back):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._drop(), _HEARING_OUT_S)
        return self.is_whole

    async def _drop(self) -> None:
        while not self.is_whole:
            await self.receive()


def new_request_id() -> str:
    """Return the id of a request that brings none."""
    return uuid.uuid4().hex


def told_of(error: Exception, request_id: str) -> VLAError:
    """Return what a client is told of an error, and log what went wrong with us."""
    if isinstance(error, VLAError):
        if error.status >= 500:
            logger.warning("request_id=%s code=%s %s", request_id, error.code, error.message)
        return error
    logger.error("request_id=%s failed", request_id, exc_info=error)
    return VLAError("something went wrong inside the server", hint="its log has the request_id")


def error_response(error: VLAError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return what `error` is answered with."""
    headers = dict(headers or {})
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    reply = error_reply(error, request_id)
    return Response(reply.model_dump_json(), error.status, headers, "application/json")


def error_reply(error: VLAError, request_id: str) -> ErrorReply:
    """Return the one form of every error."""
    body = ErrorBody(code=error.code, message=error.message, hint=error.hint)
    return ErrorReply(error=body, request_id=request_id)


def _request_id(given: str) -> str:
    return _NOT_IN_REQUEST_ID.sub("", given)[:_MAX_REQUEST_ID_CHARS] or new_request_id()

"""The middleware around every route: origins, API keys, request ids, a log line per request, and errors as replies."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vla_server_base.errors import Overloaded, Unavailable, VLAError
from vla_server_base.fairness.claims import lowered_priority
from vla_server_base.monitoring.monitor import Monitoring
from vla_server_base.monitoring.traceparent import TRACEPARENT
from vla_server_base.request_context import (
    begin_request,
    client_fields,
    current_priority,
    current_request_id,
    current_session,
    logged_path,
)
from vla_server_base.server.doorkeeper import Doorkeeper
from vla_server_base.server.error_replies import client_error, deny_socket, error_response, reason_of
from vla_server_base.server.in_flight import Bodies
from vla_server_base.server.origins import Origins
from vla_server_base.server.service import Service

logger = logging.getLogger(__name__)

_NOT_IN_REQUEST_ID = re.compile(r"[^A-Za-z0-9._:-]")
_MAX_REQUEST_ID_CHARS = 64
OTHER_ROUTES = "other"
"""The route of requests to the page, to the documentation, and to addresses that do not exist."""

# What nginx logs when the client went away before its answer.
_CLIENT_GONE = 499
_DRAIN_S = 10.0
# A server that is shutting down still answers these: above all, whether it is healthy.
_READS = ("GET", "HEAD", "OPTIONS")
# No other page may show this server's pages in a frame, transparent over its own buttons.
_NO_FRAMES = {"X-Frame-Options": "DENY", "Content-Security-Policy": "frame-ancestors 'none'"}


class RequestMiddleware:
    """ASGI middleware around everything: each exception inside it becomes an error reply.

    The body of a client that is answered early is drained first, or the client may find the connection reset instead of
    the answer. After 10 s the connection is closed nevertheless. `lifespan` runs the app's start and end; a server
    without API keys has no `doorkeeper`.
    """

    def __init__(
        self,
        app: ASGIApp,
        origins: Origins,
        doorkeeper: Doorkeeper | None,
        bodies: Bodies,
        monitor: Monitoring,
        lifespan: Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]],
    ):
        self._app, self._origins, self._bodies, self._monitor = app, origins, bodies, monitor
        self._doorkeeper, self._lifespan = doorkeeper, lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(self._app, scope, receive, send)
            return
        headers = Headers(scope=scope)
        client = scope["client"][0] if scope.get("client") else "-"
        begin_request(_request_id(headers.get("x-request-id", "")), client)
        if scope["type"] == "websocket":
            await self._open_socket(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    @staticmethod
    def _is_ending(scope: Scope) -> bool:
        service: Service = scope["app"].state.service
        return service.shutdown.begun.is_set()

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._origins.check("GET", Headers(scope=scope))
            if self._doorkeeper is not None:
                await self._doorkeeper.admit(scope)
            _set_priority(Headers(scope=scope))
        except VLAError as error:
            await deny_socket(error, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        state, headers = scope.setdefault("state", {}), Headers(scope=scope)
        measured = self._monitor.begin_request(OTHER_ROUTES, headers.get(TRACEPARENT))
        measured.continue_trace()
        status = None
        body = _Body(headers, receive, self._bodies)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                reply_headers = MutableHeaders(scope=message)
                reply_headers["X-Request-Id"] = current_request_id.get()
                if reply_headers.get("content-type", "").startswith("text/html"):
                    for name, value in _NO_FRAMES.items():
                        reply_headers.setdefault(name, value)
                if not await body.drained() or self._is_ending(scope):
                    reply_headers["Connection"] = "close"
            elif self._doorkeeper is not None and message.get("more_body"):
                try:
                    self._doorkeeper.check_still_admitted()
                except VLAError as error:
                    # Events go on for as long as somebody reads them: they end here, as if he had left.
                    state["refusal"] = error
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    raise ClientDisconnect from error
            await send(message)

        try:
            self._origins.check(scope["method"], headers)
            if self._doorkeeper is not None:
                await self._doorkeeper.admit(scope)
            _set_priority(headers)
            async with contextlib.AsyncExitStack() as stack:
                if scope["method"] not in _READS:
                    service: Service = scope["app"].state.service
                    stack.enter_context(service.shutdown.running())
                    service.rates.check_current()
                    await stack.enter_async_context(service.precedence.entered())
                await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            status = status if "refusal" in state else _CLIENT_GONE
        except asyncio.CancelledError:
            if status is not None:
                raise
            # Its body was given up, or a shutdown waits no longer; this answer is the end of the request.
            state["refusal"] = error = body.refusal or Unavailable(
                "the server is shutting down", hint="send again to another server, or after the restart"
            )
            body.is_drained = isinstance(error, Overloaded)
            await error_response(error)(scope, receive, send_with_id)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            state["refusal"] = reply_error = client_error(error)
            if status is not None:
                raise  # the reply has begun; all that is left is to break the connection
            await error_response(reply_error)(scope, receive, send_with_id)
        finally:
            body.close()
            measured.route, measured.refusal = route_of(scope), state.get("refusal")
            measured.end(status or _CLIENT_GONE)
            if measured.session is not None:
                current_session.set(measured.session)  # for the log; a task of the request has set it for itself
            logger.info(
                "method=%s path=%s status=%s ms=%.1f %s%s",
                scope["method"],
                logged_path(scope["path"]),
                status,
                1e3 * measured.seconds,
                client_fields(),
                reason_of(state["refusal"]) if "refusal" in state else "",
            )


def _set_priority(headers: Headers) -> None:
    """Take the request's class from its `X-Priority` header, which only lowers the one that it has.

    Raises:
        RequestError: it names no class.
    """
    current_priority.set(lowered_priority(headers.get("x-priority"), current_priority.get()))


def route_of(scope: Scope) -> str:
    """Return the pattern of a request's route: a path may hold whatever a client likes."""
    return getattr(scope.get("route"), "path_format", OTHER_ROUTES)


class _Body:
    """The body of a request, as far as it has come; it counts against the limit until the request is answered."""

    def __init__(self, headers: Headers, receive: Receive, bodies: Bodies):
        self.is_whole = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        self.refusal: VLAError | None = None
        self.is_drained = True
        # The client sends nothing until the body is read.
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

    async def drained(self) -> bool:
        """Drop the rest of the body, and return whether all of it came."""
        self.close()
        if self.is_drained and not (self.is_whole or self._is_held_back):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._drop(), _DRAIN_S)
        return self.is_whole

    def close(self) -> None:
        if self._counted is not None:
            self._counted.close()
            self._counted = None

    def _give_up(self, error: VLAError) -> None:
        """Cancel the request; `refusal` tells this from a shutdown."""
        assert self._task is not None, "a request is answered in a task"
        self.refusal = error
        self._task.cancel()

    async def _drop(self) -> None:
        while not self.is_whole:
            await self.receive()


def _request_id(given: str) -> str:
    return _NOT_IN_REQUEST_ID.sub("", given)[:_MAX_REQUEST_ID_CHARS]

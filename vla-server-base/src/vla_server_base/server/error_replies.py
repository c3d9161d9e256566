"""Errors as clients and the log see them."""

import logging
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vla_server_base.errors import Unauthorized, Unavailable, UpgradeRequired, VLAError
from vla_server_base.request_context import client_fields, current_request_id, logged_path
from vla_server_base.schemas.base import ErrorBody, ErrorReply

logger = logging.getLogger(__name__)

_MAX_LOGGED_REASON_CHARS = 500


def client_error(error: BaseException) -> VLAError:
    """Return the error that a client gets, and log the traceback where the server is at fault.

    The request's own log line has the reason of a refusal: see `reason_of`.
    """
    if isinstance(error, VLAError):
        return error
    if isinstance(error, MemoryError):
        logger.error("no memory is left for a request: %s", error)
        return Unavailable("the server has no memory for this request", hint="send it again later, or make it smaller")
    logger.error("a request failed", exc_info=error)
    return VLAError("something went wrong inside the server", hint="look up the request_id in the server's log")


def reason_of(error: VLAError | None) -> str:
    """Return the end of a log line: why a request was refused, on one line with control characters escaped."""
    if error is None:
        return ""
    reason = error.message
    if len(reason) > _MAX_LOGGED_REASON_CHARS:
        reason = f"{reason[:_MAX_LOGGED_REASON_CHARS]}..."
    reason = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in reason)
    return f' code={error.code} reason="{reason}"'


def refusal_response(request: Request, error: VLAError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the reply to a request that ends in `error`, and have its log line name it."""
    request.state.refusal = error
    return error_response(error, headers)


def error_response(error: VLAError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the reply for an error."""
    headers = dict(headers or {})
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, UpgradeRequired):
        headers["Upgrade"] = "websocket"
    reply = error_reply(error)
    return Response(reply.model_dump_json(), error.status, headers, "application/json")


def error_reply(error: VLAError) -> ErrorReply:
    """Return the form that all errors have."""
    body = ErrorBody(code=error.code, message=error.message, hint=error.hint)
    return ErrorReply(error=body, request_id=current_request_id.get())


async def deny_socket(error: VLAError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the handshake of a WebSocket with an error, as any other request."""
    logger.info(
        "socket path=%s %s status=%d%s",
        logged_path(scope["path"]),
        client_fields(),
        error.status,
        reason_of(error),
    )
    scope["app"].state.service.metrics.refused(error)
    if "websocket.http.response" in scope.get("extensions", {}):
        await error_response(error, {"X-Request-Id": current_request_id.get()})(scope, receive, send)
    else:
        await send({"type": "websocket.close"})

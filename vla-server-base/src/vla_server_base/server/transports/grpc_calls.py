"""gRPC calls: each ends in a reply, or in a code and an error's text, and in one line of the log."""

import logging
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio

from vla_server_base.monitoring.traceparent import TRACEPARENT
from vla_server_base.request_context import begin_request, client_fields, current_protocol
from vla_server_base.server.error_replies import client_error, reason_of
from vla_server_base.server.service import Service

logger = logging.getLogger(__name__)

CODES: Mapping[int, grpc.StatusCode] = MappingProxyType(
    {
        401: grpc.StatusCode.UNAUTHENTICATED,
        404: grpc.StatusCode.NOT_FOUND,
        408: grpc.StatusCode.DEADLINE_EXCEEDED,
        409: grpc.StatusCode.ABORTED,
        410: grpc.StatusCode.NOT_FOUND,
        413: grpc.StatusCode.RESOURCE_EXHAUSTED,
        422: grpc.StatusCode.INVALID_ARGUMENT,
        429: grpc.StatusCode.RESOURCE_EXHAUSTED,
        500: grpc.StatusCode.INTERNAL,
        503: grpc.StatusCode.UNAVAILABLE,
        504: grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""The gRPC code of each HTTP status."""

CallContext = grpc.aio.ServicerContext
CallHandler = Callable[[Any, str], Awaitable[bytes]]
ReportingCall = Callable[[Any, CallContext], Awaitable[bytes]]


def _address(peer: str) -> str:
    """Return the address in gRPC's `ipv4:127.0.0.1:5555` or `ipv6:%5B::1%5D:5555`."""
    return urllib.parse.unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _authorization(context: Any) -> str | None:
    values = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    return str(values[0]) if values else None


def _traceparent(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | bytes | None:
    return next((value for key, value in metadata or () if key == TRACEPARENT), None)


def reporting(name: str, handler: CallHandler, service: Service, admit: Callable[[str | None], None]) -> ReportingCall:
    """Return a call that replies or aborts with a code and an error's text, and logs one line.

    `admit` gets the metadata `authorization` and raises where the call has no valid key.
    """

    async def call(request: Any, context: CallContext) -> bytes:
        request_id = begin_request(client=_address(context.peer()))
        current_protocol.set("lerobot")
        code, reply, error = grpc.StatusCode.OK, b"", None
        with service.monitor.begin_request(name, _traceparent(context.invocation_metadata())) as measured:
            measured.continue_trace()
            try:
                admit(_authorization(context))
                with service.shutdown.running():
                    async with service.precedence.entered():
                        reply = await handler(request, context.peer())
            except Exception as raised:
                measured.refusal = error = client_error(raised)
                code = CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
        logger.info(
            "grpc call=%s status=%s ms=%.1f %s peer=%s%s",
            name,
            code.name,
            1e3 * measured.seconds,
            client_fields(),
            context.peer(),
            reason_of(error),
        )
        if error is not None:
            await context.abort(code, error.as_text(request_id))
        return reply

    return call

"""An episode as server-sent events, one for each step, for as long as the client listens."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from vla_server_base.errors import VLAError
from vla_server_base.schemas.base import Reply
from vla_server_base.schemas.execute_reply import ChangeEvent, EndEvent, StartEvent, StepEvent
from vla_server_base.server.error_replies import error_reply
from vla_server_base.server.http_body import reply_json
from vla_server_base.server.in_flight import unless_disconnected
from vla_server_base.server.kept_events import WrittenEvent

EVENT_STREAM = "text/event-stream"
# Without a type: some readers of the description take a schema for the whole stream, others for each event.
EVENTS: dict[str, Any] = {EVENT_STREAM: {"schema": {"description": "Server-sent events; each has JSON as its data"}}}
_NAMES = {StartEvent: "start", StepEvent: "step", ChangeEvent: "change", EndEvent: "end"}
# A proxy shall pass on each event when it comes.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Events = AsyncGenerator[StartEvent | StepEvent | ChangeEvent | EndEvent, None]


async def stream_response(request: Request, events: Events) -> Response:
    """Wait for the first event, so that what fails before it has its own status, and return the stream."""
    start = await unless_disconnected(request, anext(events))
    first = event_bytes(_NAMES[type(start)], start)
    return StreamingResponse(_encoded(request, first, events), headers=HEADERS, media_type=EVENT_STREAM)


async def _encoded(request: Request, first: bytes, events: Events) -> AsyncIterator[bytes]:
    async with aclosing(events):
        yield first
        while True:
            try:
                event = await unless_disconnected(request, anext(events))
                text = event_bytes(_NAMES[type(event)], event)
            except StopAsyncIteration:
                return
            except VLAError as error:
                request.state.refusal = error
                yield event_bytes("error", error_reply(error))
                return
            yield text


def written(event: StartEvent | StepEvent | ChangeEvent | EndEvent) -> WrittenEvent:
    """Return an event as JSON; not for the event loop, as images take megabytes."""
    return WrittenEvent(name=_NAMES[type(event)], json=reply_json(event).decode())


def event_bytes(name: str, content: Reply) -> bytes:
    """Return an event as it is sent; large ones not on the event loop."""
    return format_sse_event(event=name, data_str=reply_json(content).decode())

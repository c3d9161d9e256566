"""GET /sessions/{session_id}/events: the steps of a robot's session, for people to watch."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT

from vla_server_base.errors import NotFound
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.session_events import answered_step_event
from vla_server_base.schemas.session_reply import SessionStatusReply
from vla_server_base.server.event_stream import EVENT_STREAM, EVENTS, HEADERS, event_bytes
from vla_server_base.server.kept_events import QUIET_S
from vla_server_base.server.service import CurrentService, Service
from vla_server_base.sessions.answered_steps import AnsweredStep
from vla_server_base.sessions.session import Session
from vla_server_base.sessions.status import status_of

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.get(
    "/sessions/{session_id:path}/events",
    summary="Watch the steps of a session",
    responses={200: {"content": EVENTS}},
    response_class=Response,
)
async def session_events(session_id: str, service: CurrentService) -> Response:
    if service.config.console == "off":
        raise NotFound("this server shows no sessions", hint="start it with VLA_CONSOLE=on")
    service.shutdown.check()
    events = _events(service, service.sessions.of(session_id))
    # The first event is made before the reply begins, so that a refusal has its own status.
    first = await anext(events)
    return StreamingResponse(_from_first(first, events), headers=HEADERS, media_type=EVENT_STREAM)


async def _events(service: Service, session: Session) -> AsyncGenerator[bytes, None]:
    """Yield what the session is, its last step, its steps as they are answered, and its end.

    Raises:
        Overloaded: as many watch as are allowed.
    """
    with service.watchers.take(), session.answered.watch() as watcher:
        yield _status_event("session", session)
        while True:
            try:
                step = await asyncio.wait_for(watcher.next_step(), QUIET_S)
            except asyncio.TimeoutError:
                service.sessions.forget_idle()
                yield KEEPALIVE_COMMENT
                continue
            if step is None:
                break
            yield await service.step_encoder.event(step)
        yield _status_event("end", session)


async def _from_first(first: bytes, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(events):
        yield first
        async for event in events:
            yield event


def step_event(step: AnsweredStep) -> bytes:
    """Return the event of a step; not for the event loop."""
    return event_bytes("step", answered_step_event(step))


def _status_event(name: str, session: Session) -> bytes:
    return event_bytes(name, SessionStatusReply(**dataclasses.asdict(status_of(session))))

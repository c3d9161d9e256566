"""One control step of a session, in any protocol: a StepRequest in, a StepResult out."""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from vla_server_base.errors import RequestError, SessionGone
from vla_server_base.request_context import current_session
from vla_server_base.request_inputs import check_observation, check_task
from vla_server_base.sessions.registry import Sessions
from vla_server_base.sessions.requests import EpisodeRequest, ReadFor, StepRequest, StepResult
from vla_server_base.sessions.session import Session
from vla_server_base.sessions.shared_copy import ContinuedElsewhere

logger = logging.getLogger(__name__)

_MAX_OVERTAKEN = 8
"""How often other servers may be first with a session, until a request is refused."""

T = TypeVar("T")


async def run_step(sessions: Sessions, request: StepRequest) -> StepResult:
    """Return what the request's robot does now.

    Raises:
        ImageError, RequestError, InstructionError: the request lacks what the policy requires; nothing has changed.
        Superseded, DeadlinePassed, RequestError, Unavailable: see `Sessions.open`, `Sessions.resume` and
            `Session.step`.
        SessionGone: see `Sessions.update` and `Session.step`.
    """
    spec = (request.engine or sessions.engine_of(request.session_id)).spec
    check_observation(request.observation, spec)
    check_task(request.task, spec)
    if sessions.store is None:
        session = await _session_of(sessions, request)
        current_session.set(session.id)
        sessions.hand_over(session, request.connection)
        result = await session.step(request)
    else:
        session, result = await _shared_step(sessions, request)
    session.engine.monitor.note_step(session.id, result.step, result.seed)
    sessions.keep_within_memory(session)
    if request.notes and result.step == 0:
        logger.info("session=%s %s", session.id, "; ".join(request.notes))
    return replace(
        result,
        notes=request.notes,
        unknown_words=session.engine.unknown_words(request.task),
        token=await sessions.token(session) if request.return_token else None,
    )


async def begin_episode(
    sessions: Sessions, request: EpisodeRequest, default_session_id: str, *, is_connection: bool = True
) -> None:
    """Begin a new episode in the session that a client names, else in its connection's or its address's default one.

    Raises:
        RequestError, UnknownName, Unavailable: see `Sessions.open`; or a reset states settings for an address.
        Superseded: another server has ended the session, or goes on with it again and again.
    """
    if request.session_id is None and request.settings and not is_connection:
        raise RequestError(
            f"{', '.join(request.settings)}: a reset without a session_id cannot set this",
            hint="send it with each observation, or name a session_id in the reset and in the observations",
        )
    session_id = request.session_id or default_session_id
    is_own = is_connection and session_id == default_session_id

    async def begin() -> None:
        if sessions.store is not None and not is_own:
            await _update(sessions, session_id, begins=True)
        session = sessions.open(
            session_id,
            request.seed,
            executes_chunks=request.executes_chunks,
            read_for=ReadFor(engine=request.engine),
            is_of_connection=is_own,
            **request.settings,
        )
        ended = sessions.hand_over(session, default_session_id if is_connection else None)
        session.reset(request.seed, request.settings, "session" if request.session_id else "episode")
        try:
            if session.shared is not None:
                await session.save()
        finally:
            await sessions.end_shared(ended)

    await _until_first(begin)


async def _shared_step(sessions: Sessions, request: StepRequest) -> tuple[Session, StepResult]:
    """Have a step of a session that several servers share follow what any of them has come to.

    Where another server goes on while this one computes, the step is placed after that one, as if one server
    had got both in this order: it is the next step, the same one again, or too old (Superseded). To refuse it in each
    case would leave the robot without an action that it can have, and most clients would only send it once more.
    """
    started = time.monotonic()

    async def step() -> tuple[Session, StepResult]:
        session = await _session_of(sessions, request)
        current_session.set(session.id)
        ended = sessions.hand_over(session, request.connection)
        try:
            return session, await session.step(_with_time_left(request, started))
        finally:
            await sessions.end_shared(ended)

    return await _until_first(step)


async def _until_first(work: Callable[[], Awaitable[T]]) -> T:
    """Do what ends with a save again, until no other server is first.

    Raises:
        ContinuedElsewhere: others are first again and again.
    """
    for _ in range(_MAX_OVERTAKEN):
        with suppress(ContinuedElsewhere):
            return await work()
    return await work()


def _with_time_left(request: StepRequest, started: float) -> StepRequest:
    if request.deadline_ms is None:
        return request
    return replace(request, deadline_ms=max(0.0, request.deadline_ms - 1e3 * (time.monotonic() - started)))


async def _session_of(sessions: Sessions, request: StepRequest) -> Session:
    if request.token is not None:
        return await sessions.resume(request.token, executes_chunks=request.executes_chunks)
    if sessions.store is not None and request.session_id is not None and not request.is_of_its_connection:
        await _update(sessions, request.session_id, begins=request.reset)
    if request.connection is not None and request.session_id is not None and not request.reset:
        sessions.check_return(request.session_id, request.connection, request.task)
    return sessions.open(
        request.session_id,
        request.seed,
        executes_chunks=request.executes_chunks,
        read_for=request.read_for,
        is_of_connection=request.is_of_its_connection,
        **request.settings,
    )


async def _update(sessions: Sessions, session_id: str, *, begins: bool) -> None:
    """Bring a session up to date; one that cannot go on here does not matter where an episode begins."""
    try:
        await sessions.update(session_id)
    except SessionGone:
        if not begins:
            raise

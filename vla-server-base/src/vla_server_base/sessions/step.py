"""One control step of a session, in any protocol: a StepRequest in, a StepResult out."""

import logging
from dataclasses import replace

from vla_server_base.errors import RequestError
from vla_server_base.request_context import current_session
from vla_server_base.request_inputs import check_observation, check_task
from vla_server_base.sessions.registry import Sessions
from vla_server_base.sessions.requests import EpisodeRequest, ReadFor, StepRequest, StepResult
from vla_server_base.sessions.session import Session

logger = logging.getLogger(__name__)


async def run_step(sessions: Sessions, request: StepRequest) -> StepResult:
    """Return what the request's robot does now.

    Raises:
        ImageError, RequestError, InstructionError: the request lacks what the policy requires; nothing has changed.
        Superseded, DeadlinePassed, RequestError, Unavailable: see `Sessions.open`, `Sessions.resume` and
            `Session.step`.
    """
    spec = (request.engine or sessions.engine_of(request.session_id)).spec
    check_observation(request.observation, spec)
    check_task(request.task, spec)
    session = await _session_of(sessions, request)
    current_session.set(session.id)
    sessions.hand_over(session, request.connection)
    result = await session.step(request)
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


def begin_episode(
    sessions: Sessions, request: EpisodeRequest, default_session_id: str, *, is_connection: bool = True
) -> None:
    """Begin a new episode in the session that a client names, else in its connection's or its address's default one.

    Raises:
        RequestError, UnknownName, Unavailable: see `Sessions.open`; or a reset states settings for an address.
    """
    if request.session_id is None and request.settings and not is_connection:
        raise RequestError(
            f"{', '.join(request.settings)}: a reset without a session_id cannot set this",
            hint="send it with each observation, or name a session_id in the reset and in the observations",
        )
    session_id = request.session_id or default_session_id
    session = sessions.open(
        session_id,
        request.seed,
        executes_chunks=request.executes_chunks,
        read_for=ReadFor(engine=request.engine),
        **request.settings,
    )
    sessions.hand_over(session, default_session_id if is_connection else None)
    session.reset(request.seed, request.settings, "session" if request.session_id else "episode")


async def _session_of(sessions: Sessions, request: StepRequest) -> Session:
    if request.token is not None:
        return await sessions.resume(request.token, executes_chunks=request.executes_chunks)
    if request.connection is not None and request.session_id is not None and not request.reset:
        sessions.check_return(request.session_id, request.connection, request.task)
    return sessions.open(
        request.session_id,
        request.seed,
        executes_chunks=request.executes_chunks,
        read_for=request.read_for,
        **request.settings,
    )

"""One turn of a session, however it came: what a robot saw and asks, and what it is to do."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vla_server_base.contract import Observation, Task
from vla_server_base.errors import RequestError
from vla_server_base.replies.session import SessionReply
from vla_server_base.session import Answer, Turn
from vla_server_base.sessions import Sessions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TurnRequest:
    """What a client asks of a session; a session that is named by neither id nor token is made up.

    `settings` are what it says of SessionSettings. `reset` begins a new episode with this turn, with a `seed` from it.
    `notes` are what the client is to be told: where it did not say what is done, or said it in other words.
    """

    observation: Observation
    task: Task
    session_id: str | None = None
    token: str | None = None
    return_token: bool = False
    reset: bool = False
    seed: int | None = None
    sequence: int | None = None
    obs_time: float | None = None
    deadline_ms: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def in_session(self, session_id: str) -> "TurnRequest":
        """Return it as a turn of this session, unless it names another."""
        is_named = self.session_id is not None or self.token is not None
        return self if is_named else replace(self, session_id=session_id)


@dataclass(frozen=True, kw_only=True)
class TurnReply:
    """The answer, and where its session is then."""

    answer: Answer
    session: SessionReply


async def take_turn(sessions: Sessions, request: TurnRequest) -> TurnReply:
    """Return what the session is to do now.

    Raises:
        Superseded, Late, RequestError, Unavailable: see `Sessions.open`, `Sessions.resume` and `Session.act`.
    """
    if request.token is not None:
        session = await sessions.resume(request.token)
    else:
        session = sessions.open(request.session_id, request.seed, **request.settings)
    if request.reset:
        session.reset(request.seed)
    elif request.seed not in (None, session.progress.seed):
        raise RequestError(
            f"seed: session '{session.id}' has the seed {session.progress.seed}",
            hint="leave it out, or begin a new episode with it: reset",
        )
    turn = Turn(
        observation=request.observation,
        task=request.task,
        sequence=request.sequence,
        obs_time=request.obs_time,
        deadline_ms=request.deadline_ms,
    )
    answer = await session.act(turn)
    where = SessionReply(
        id=session.id,
        step=answer.step,
        sequence=answer.sequence,
        obs_time=answer.obs_time,
        asked_policy=answer.asked_policy,
    )
    if request.notes:
        where.notes = list(request.notes)
        if answer.step == 0:
            logger.info("session=%s %s", session.id, "; ".join(request.notes))
    if request.return_token:
        where.token = await sessions.token(session)
    return TurnReply(answer=answer, session=where)

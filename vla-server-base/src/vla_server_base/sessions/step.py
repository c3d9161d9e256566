"""One turn of a session, however it came: what a robot saw and asks, and what it is to do."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vla_server_base.contract import Observation, Task
from vla_server_base.errors import RequestError
from vla_server_base.request_context import current_session
from vla_server_base.schemas.session_reply import SessionReply
from vla_server_base.sessions.registry import Sessions
from vla_server_base.sessions.session import Answer, Scope, Session, Turn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TurnRequest:
    """What a client asks of a session; a session that is named by neither id nor token is made up.

    `settings` are what it says of SessionSettings, `scope` for how long. `reset` begins a new episode with this turn,
    with a `seed` from it. `num_skipped` are the control steps since the last turn, where no `sequence` says it.
    `connection` is that which it came on, where the server hears of the connection's end.
    `sources` are, by camera, which of those that its client sends together a picture is of.
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
    scope: Scope = "session"
    num_skipped: int = 0
    connection: str | None = None
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def on_connection(self, own_session: str) -> "TurnRequest":
        """Return it as a turn of its connection's own session, unless it names another, for which that one ends."""
        request = replace(self, connection=own_session)
        return request if self._is_named else replace(request, session_id=own_session, scope="episode")

    def from_address(self, own_session: str) -> "TurnRequest":
        """Return it as a turn of its address's own session, unless it names another.

        Nobody hears when one program ends and another begins there, so each request says all that it wants.
        """
        return self if self._is_named else replace(self, session_id=own_session, scope="request")

    @property
    def _is_named(self) -> bool:
        return self.session_id is not None or self.token is not None


@dataclass(frozen=True, kw_only=True)
class EpisodeRequest:
    """What a client says of an episode before its first turn; `settings` as of a TurnRequest."""

    session_id: str | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


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
    session = await _session_of(sessions, request)
    current_session.set(session.id)
    sessions.hand_over(session, request.connection)
    turn = Turn(
        observation=request.observation,
        task=request.task,
        sources=request.sources,
        reset=request.reset,
        seed=request.seed,
        settings=request.settings,
        scope=request.scope,
        num_skipped=request.num_skipped,
        sequence=request.sequence,
        obs_time=request.obs_time,
        deadline_ms=request.deadline_ms,
    )
    answer = await session.act(turn)
    sessions.keep_within_memory(session)
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
    if unknown := sessions.unknown_words(request.task):
        where.unknown_words = list(unknown)
    if request.return_token:
        where.token = await sessions.token(session)
    return TurnReply(answer=answer, session=where)


async def _session_of(sessions: Sessions, request: TurnRequest) -> Session:
    if request.token is not None:
        return await sessions.resume(request.token)
    if request.connection is not None and request.session_id is not None and not request.reset:
        sessions.check_return(request.session_id, request.connection, request.task)
    return sessions.open(request.session_id, request.seed, **request.settings)


def begin_episode(sessions: Sessions, request: EpisodeRequest, own_session: str, *, is_connection: bool = True) -> None:
    """Begin a new episode in the session that a client names, else in its connection's or its address's own.

    Raises:
        RequestError, UnknownName, Unavailable: see `Sessions.open`; or an address says what each request is to say.
    """
    if request.session_id is None and request.settings and not is_connection:
        raise RequestError(
            f"{', '.join(request.settings)}: a reset cannot say this for an address",
            hint="say it with each observation, or name a session_id here and there",
        )
    session = sessions.open(request.session_id or own_session, request.seed, **request.settings)
    sessions.hand_over(session, own_session if is_connection else None)
    session.reset(request.seed, request.settings, "session" if request.session_id else "episode")

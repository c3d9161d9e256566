"""All sessions of a server: begun on first use, bounded in number, forgotten when idle, resumed from tokens."""

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Task
from vla_server_base.engine.engine import Engine
from vla_server_base.errors import InvalidToken, NotFound, Overloaded, RequestError
from vla_server_base.request_context import current_client
from vla_server_base.schemas.session_reply import SessionStatusReply
from vla_server_base.sessions.session import Session, SessionSettings, checked_settings, new_progress, same_task
from vla_server_base.sessions.token import HINT, TokenSeal

logger = logging.getLogger(__name__)

SESSION_ID = re.compile(r"[A-Za-z0-9._:@/+-]{1,128}")
KEY_FILE = "session.key"


class Sessions:
    """The sessions of one policy, by their id. All methods are called on the event loop.

    A session that is not used for `config.session_idle_s` is forgotten; one that waits for an answer is in use. Where
    there are as many as may be, or as much of their pictures, one that is not in use makes room: of the client that has
    most, so that nobody drives out another's, the least recently used one.
    """

    def __init__(
        self,
        engine: Engine,
        config: ServerConfig,
        model_id: str,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._engine, self._config, self._clock = engine, config, clock
        self._sessions: dict[str, Session] = {}
        self._left: dict[tuple[str, str], Task | None] = {}
        """Sessions that ended as their connection named another, with what they were to do; the latest ones."""
        self._model_id = model_id
        self._seal: TokenSeal | None = None

    def open(self, session_id: str | None, seed: int | None = None, **given: Any) -> Session:
        """Return the session of this id; None makes an id up.

        If there is none, it begins with `seed` and `given`, fields of SessionSettings; the server has the others.

        Raises:
            RequestError: the id or the settings cannot be.
            UnknownName: the settings name a dataset or a format that the policy has not.
            Overloaded: there are as many sessions as may be, and all are in use.
        """
        session_id = secrets.token_hex(16) if session_id is None else _checked(session_id)
        self._forget_idle()
        session = self._sessions.get(session_id)
        if session is None:
            return self._begin(session_id, checked_settings(self._engine.spec, self._defaults, given), seed)
        session.last_used = self._clock()
        return session

    def check_return(self, session_id: str, connection: str, task: Task) -> None:
        """Check that a connection does not go on with a session that ended as it named another.

        Raises:
            RequestError: that would begin its episode anew, in silence.
        """
        left = self._left.get((connection, session_id))
        if left is not None and session_id not in self._sessions and same_task(left, task):
            raise RequestError(
                f"session '{session_id}' ended when this connection named another one: a connection is one robot's",
                hint="open a connection for each robot; or begin a new episode with it (reset)",
            )

    def hand_over(self, session: Session, connection: str | None) -> None:
        """Note who uses a session; the one that a connection has used before ends, if nobody else has used it since."""
        if connection is not None and session.connection != connection:
            for other in list(self._sessions.values()):
                if other is not session and other.connection == connection:
                    self._left[connection, other.id] = other.progress.task
                    self.end(other.id)
            while len(self._left) > self._config.max_sessions:
                del self._left[next(iter(self._left))]
        session.connection = connection

    async def resume(self, token: str) -> Session:
        """Return the session that a token is of: as it is here, or as it was then if that is further.

        Raises:
            InvalidToken: it was not signed here, or is too old and its session is not here any more.
            Overloaded: there are as many sessions as may be, and all are in use.
        """
        resumed = await asyncio.to_thread(self._token_seal().read, token, self._engine.spec)
        self._forget_idle()
        session = self._sessions.get(resumed.id)
        if resumed.is_too_old and session is None:
            raise InvalidToken("the session token is too old", hint=HINT)
        if session is None:
            session = self._begin(resumed.id, checked_settings(self._engine.spec, resumed.settings, {}), None)
            session.progress = resumed.progress
        session.catch_up(resumed.settings, resumed.progress)
        session.last_used = self._clock()
        return session

    async def token(self, session: Session) -> str:
        """Return a token of what a session has come to."""
        seal = self._token_seal()
        # Read off before anything is awaited: the next turn changes it.
        content = seal.content(session.id, session.settings, session.progress)
        return await asyncio.to_thread(seal.sealed, content)

    def end(self, session_id: str) -> SessionStatusReply:
        """Forget a session and return what it had come to; whoever waits for it is told.

        Raises:
            NotFound: there is none of this id.
        """
        session = self._sessions.pop(session_id, None)
        if session is None:
            raise NotFound(f"there is no session '{session_id[:128]}'", hint="GET /sessions lists them")
        session.close()
        return self._status(session)

    def end_if_there(self, session_id: str) -> None:
        """Forget a session, if there is one of this id."""
        if session_id in self._sessions:
            self.end(session_id)

    def statuses(self) -> list[SessionStatusReply]:
        """Return what is known of each session, the last used one first."""
        self._forget_idle()
        ordered = sorted(self._sessions.values(), key=lambda session: session.last_used, reverse=True)
        return [self._status(session) for session in ordered]

    def unknown_words(self, task: Task) -> tuple[str, ...]:
        """Return the words of a task's instruction that the policy does not know."""
        return self._engine.unknown_words(task)

    def _begin(self, session_id: str, settings: SessionSettings, seed: int | None) -> Session:
        if len(self._sessions) >= self._config.max_sessions:
            self._make_room()
        self._sessions[session_id] = session = Session(
            id=session_id,
            settings=settings,
            defaults=checked_settings(self._engine.spec, self._defaults, {}),
            progress=new_progress(self._engine.spec, settings, secrets.randbelow(2**32) if seed is None else seed),
            engine=self._engine,
            clock=self._clock,
            client=current_client.get(),
        )
        return session

    @property
    def _defaults(self) -> SessionSettings:
        return SessionSettings(reset_on_new_task=self._config.session_reset_on_new_task)

    def keep_within_memory(self, session: Session) -> None:
        """Forget idle sessions until all pictures fit into `config.session_mb`, where this session's have changed."""
        if session.num_bytes == session.counted_bytes:
            return  # as at nearly every turn
        session.counted_bytes = session.num_bytes
        most = self._config.session_mb * 2**20
        while sum(session.num_bytes for session in self._sessions.values()) > most and self._forget_one(
            lambda session: session.num_bytes
        ):
            pass

    def _make_room(self) -> None:
        if not self._forget_one(lambda _: 1):
            count = self._config.max_sessions
            are, they = ("is 1 session", "it is") if count == 1 else (f"are {count} sessions", "all are")
            raise Overloaded(
                f"there {are}, which is the most here, and {they} in use",
                hint="end one (DELETE /sessions/{id}), or send again later; VLA_MAX_SESSIONS raises the limit",
            )

    def _forget_one(self, cost: Callable[[Session], int]) -> bool:
        """Forget the least recently used idle session of the client whose sessions cost most; say if there was one."""
        costs = Counter[str]()
        for session in self._sessions.values():
            costs[session.client] += cost(session)
        idle = [session for session in self._sessions.values() if not session.num_waiting]
        if not idle:
            return False
        oldest = min(idle, key=lambda session: (-costs[session.client], session.last_used))
        idle_s = self._clock() - oldest.last_used
        logger.info("session=%s is forgotten after %.1f s without use, to make room for another", oldest.id, idle_s)
        self.end(oldest.id)
        return True

    def _forget_idle(self) -> None:
        before = self._clock() - self._config.session_idle_s
        for session_id, session in list(self._sessions.items()):
            if session.last_used < before and not session.num_waiting:
                self.end(session_id)

    def _status(self, session: Session) -> SessionStatusReply:
        progress = session.progress
        return SessionStatusReply(
            id=session.id,
            execution=session.settings.execution,
            instruction=progress.task.instruction if progress.task else None,
            seed=progress.seed,
            step=progress.step,
            idle_s=round(self._clock() - session.last_used, 3),
            is_waiting=session.num_waiting > 0,
        )

    def _token_seal(self) -> TokenSeal:
        if self._seal is None:
            config = self._config
            self._seal = TokenSeal(config.cache_dir / KEY_FILE, self._model_id, config.session_token_s)
        return self._seal


def _checked(session_id: str) -> str:
    if not SESSION_ID.fullmatch(session_id):
        raise RequestError(
            f"session_id: '{session_id[:80]}' cannot be one", hint="1 to 128 letters, digits or any of . _ : @ / + -"
        )
    return session_id

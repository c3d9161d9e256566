"""All sessions of a server: begun on first use, bounded in number, forgotten when idle, resumed from tokens."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vla_server_base.config import ServerConfig
from vla_server_base.contract import VLAModelAdapter
from vla_server_base.engine import Engine
from vla_server_base.errors import InvalidToken, NotFound, Overloaded, RequestError, UnknownName
from vla_server_base.replies.session import SessionStatusReply
from vla_server_base.session import Session, SessionSettings, new_progress
from vla_server_base.session_token import HINT, TokenSeal

SESSION_ID = re.compile(r"[A-Za-z0-9._:@/+-]{1,128}")
KEY_FILE = "session.key"


class Sessions:
    """The sessions of one policy, by their id. All methods are called on the event loop.

    A session that is not used for `config.session_idle_s` is forgotten; one that waits for an answer is in use.
    """

    def __init__(
        self,
        engine: Engine,
        adapter: VLAModelAdapter,
        config: ServerConfig,
        model_id: str,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._engine, self._adapter, self._config, self._clock = engine, adapter, config, clock
        self._sessions: dict[str, Session] = {}
        self._model_id = model_id
        self._seal: TokenSeal | None = None

    def open(self, session_id: str | None, seed: int | None = None, **given: Any) -> Session:
        """Return the session of this id, begun with `seed` if there is none; None makes an id up.

        `given` are fields of SessionSettings; those that are left out are the server's, or what the session has. One
        that has seen nothing yet, or nothing since its reset, takes new ones.

        Raises:
            RequestError: the id cannot be one, or the session was begun otherwise.
            UnknownName: the settings name a dataset or a format that the policy has not.
            Overloaded: there are as many sessions as may be.
        """
        session_id = secrets.token_hex(16) if session_id is None else _checked(session_id)
        self._forget_idle()
        session = self._sessions.get(session_id)
        if session is None:
            resets = self._config.session_reset_on_new_task
            return self._begin(session_id, SessionSettings(**{"reset_on_new_task": resets, **given}), seed)
        if session.progress.task is None:
            seed = session.progress.seed if seed is None else seed
            return self._begin(session_id, replace(session.settings, **given), seed)
        for name, value in given.items():
            if value != (begun := getattr(session.settings, name)):
                raise RequestError(
                    f"{name}: session '{session_id}' was begun with {begun!r}, now {value!r} is asked for",
                    hint="reset it, or use another session_id",
                )
        session.last_used = self._clock()
        return session

    async def resume(self, token: str) -> Session:
        """Return the session that a token is of: as it is here, or as it was then if that is further.

        Raises:
            InvalidToken: it was not signed here, or is too old and its session is not here any more.
            Overloaded: there are as many sessions as may be.
        """
        resumed = await asyncio.to_thread(self._token_seal().read, token, self._engine.spec)
        self._forget_idle()
        session = self._sessions.get(resumed.id)
        if resumed.is_too_old and session is None:
            raise InvalidToken("the session token is too old", hint=HINT)
        if session is None:
            session = self._begin(resumed.id, resumed.settings, None)
            session.progress = resumed.progress
        session.catch_up(resumed.progress)
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

    def _begin(self, session_id: str, settings: SessionSettings, seed: int | None) -> Session:
        if session_id not in self._sessions and len(self._sessions) >= self._config.max_sessions:
            raise Overloaded(
                f"there are {self._config.max_sessions} sessions, which is the most here",
                hint="end one (DELETE /sessions/{id}), or send again later; VLA_MAX_SESSIONS raises the limit",
            )
        spec = self._engine.spec
        settings = replace(
            settings,
            dataset=_known("dataset", settings.dataset, spec.datasets, spec.default_dataset),
            action_format=_known("action_format", settings.action_format, spec.action_formats, spec.action_formats[0]),
        )
        self._sessions[session_id] = session = Session(
            id=session_id,
            settings=settings,
            progress=new_progress(spec, settings, secrets.randbelow(2**32) if seed is None else seed),
            engine=self._engine,
            adapter=self._adapter,
            clock=self._clock,
        )
        return session

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


def _known(what: str, given: str | None, known: tuple[str, ...], default: str | None) -> str | None:
    if given is not None and given not in known:
        raise UnknownName(what, given, known)
    return given or default

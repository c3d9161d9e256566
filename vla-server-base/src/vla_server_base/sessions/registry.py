"""All sessions of a server: begun on first use, bounded in number, forgotten when idle, resumed from tokens."""

import asyncio
import logging
import re
import secrets
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from cachetools import FIFOCache

from vla_server_base.access.keys import current_owner
from vla_server_base.config import ServerConfig
from vla_server_base.contract import Task
from vla_server_base.engine.contract_differences import contract_differences
from vla_server_base.engine.engine import Engine
from vla_server_base.engine.engines import Engines
from vla_server_base.errors import InvalidToken, NotFound, Overloaded, RequestError, SessionGone, Unavailable
from vla_server_base.request_context import current_client, current_protocol
from vla_server_base.sessions.content import LONG_BYTES, UnreadableContent, decoded
from vla_server_base.sessions.eviction import session_to_forget
from vla_server_base.sessions.progress import is_same_task, new_progress
from vla_server_base.sessions.recorded_step import SessionRecorder
from vla_server_base.sessions.requests import READ_FOR_ANY, ReadFor
from vla_server_base.sessions.session import Session
from vla_server_base.sessions.settings import SessionSettings, checked_settings, default_settings
from vla_server_base.sessions.shared_copy import SharedCopy
from vla_server_base.sessions.shared_state import SharedState, state_of
from vla_server_base.sessions.status import SessionStatus, status_of
from vla_server_base.sessions.store import NOTHING, SessionKey, SessionStore
from vla_server_base.sessions.token import BEGIN_NEW_SESSION, ResumedSession, TokenSeal

logger = logging.getLogger(__name__)

SESSION_ID = re.compile(r"[A-Za-z0-9._:@/+-]{1,128}")


class Sessions:
    """The sessions of a server, by their id. All methods are called on the event loop.

    Where the server has API keys, each has its own: in the requests of one key, those of another do not exist.

    A session that is not used for `config.session_idle_s` is forgotten; one that waits for a result is in use. When the
    number of sessions or the size of their images reaches its limit, the least recently used session of the client
    that has most makes room, unless it is in use: no client drives out another's sessions.

    Several servers share their sessions by a `store`, so that a robot's next request may come to any of them: who
    opens, resumes or ends a session has its copy brought up to date first (`update`), and what a step comes to is
    saved before it is answered. A copy that is forgotten here does not end the session. A connection's own session is
    its server's alone.
    """

    def __init__(
        self,
        engines: Engines,
        config: ServerConfig,
        clock: Callable[[], float] = time.monotonic,
        *,
        store: SessionStore | None = None,
        recorder_of: Callable[[str, str], SessionRecorder | None] = lambda _session_id, _client: None,
    ):
        """`recorder_of` returns what records a session, by its id and its client; None where nothing does."""
        self.engines, self._config, self._clock = engines, config, clock
        self._sessions: dict[tuple[str, str], Session] = {}
        """By their owner and id."""
        self._left: FIFOCache[tuple[str, str], Task | None] = FIFOCache(config.max_sessions)
        """The tasks of sessions that ended when their connection named another one; by connection and session."""
        self._seals: dict[str, TokenSeal] = {}
        """By the id of their model, also of models that are no longer held."""
        self._recorder_of = recorder_of
        self.store = store
        """Where it shares its sessions with other servers; None where there are none."""
        self._locks: weakref.WeakValueDictionary[SessionKey, asyncio.Lock] = weakref.WeakValueDictionary()
        self._ended: FIFOCache[SessionKey, int] = FIFOCache(config.max_sessions)
        """The versions at which sessions have ended, after which others of their names begin."""

    def open(
        self,
        session_id: str | None,
        seed: int | None = None,
        *,
        executes_chunks: bool = False,
        read_for: ReadFor = READ_FOR_ANY,
        is_of_connection: bool = False,
        **changes: Any,
    ) -> Session:
        """Return the session of this id; None makes an id up.

        A session that does not exist yet begins with `seed` and the default settings with `changes`; see
        `default_settings` for a client that `executes_chunks` itself. It begins on the model that the request was
        `read_for`, and stays on it until it ends, or a request that begins an episode names another. One that
        `is_of_connection` is not shared.

        Raises:
            RequestError: the id or the settings are invalid, or the request names another model within an episode.
            Unavailable: the request was read for a model that the session is not on.
            UnknownName: the policy does not have the dataset or format that the settings name.
            Overloaded: there are as many sessions as allowed, and all are in use.
        """
        session_id = secrets.token_hex(16) if session_id is None else _checked_id(session_id)
        self.forget_idle()
        session = self._on_right_model(self._sessions.get(_name_of(session_id)), read_for)
        if session is None:
            engine = self._engine_for(read_for)
            defaults = self._defaults(engine, executes_chunks)
            settings = checked_settings(engine.spec, defaults, changes)
            return self._begin(session_id, engine, settings, defaults, seed, is_of_connection=is_of_connection)
        session.last_used = self._clock()
        return session

    async def resume(self, token: str, *, executes_chunks: bool = False) -> Session:
        """Return the session of a token: as it is here, or as it was then if that is further.

        Raises:
            InvalidToken: it was not signed here, is another key's, or is too old and its session has ended; or its
                model is not held.
            Overloaded: there are as many sessions as allowed, and all are in use.
            SessionGone, Unavailable: see `update`.
        """
        engine, resumed = await asyncio.to_thread(self._read_token, token)
        if resumed.owner != current_owner():
            raise InvalidToken("the session token was given to another API key", hint=BEGIN_NEW_SESSION)
        if self.store is not None:
            await self.update(resumed.id)
        self.forget_idle()
        session = self._sessions.get(_name_of(resumed.id))
        if resumed.is_too_old and session is None:
            raise InvalidToken("the session token is too old", hint=BEGIN_NEW_SESSION)
        if session is None:
            settings = checked_settings(engine.spec, resumed.settings, {})
            session = self._begin(resumed.id, engine, settings, self._defaults(engine, executes_chunks), None)
            session.progress = resumed.progress
        if session.engine is not engine:
            raise InvalidToken(
                f"the session has gone on with the model '{session.engine.id}', and the token is of '{engine.id}'",
                hint=BEGIN_NEW_SESSION,
            )
        session.catch_up(resumed.settings, resumed.progress)
        if session.shared is not None:
            # The client itself says from where it goes on.
            session.shared.is_in_doubt = False
        session.last_used = self._clock()
        return session

    async def token(self, session: Session) -> str:
        """Return a token that resumes a session from where it is now."""
        # Read before anything is awaited: the next request changes it.
        seal = self._seal(session.engine)
        content = seal.content(session.id, session.settings, session.progress, owner=session.owner)
        return await asyncio.to_thread(seal.sealed, content)

    async def update(self, session_id: str) -> None:
        """Bring this server's copy of a session up to date with the store, which must be there.

        Nothing happens between this and what the caller then does, unless it awaits something else.

        Raises:
            RequestError: the id is invalid.
            SessionGone: the session is of a model that is not held here, or of another version of this server.
            Overloaded: there are as many sessions as allowed, and all are in use.
            Unavailable: the store does not answer.
        """
        assert self.store is not None, "the caller has checked it"
        name = _name_of(_checked_id(session_id))
        self.forget_idle()
        async with self._lock_of(name):
            while True:
                session = self._sessions.get(name)
                if session is not None:
                    session.last_used = self._clock()
                    if session.shared is None:
                        return
                copy = None if session is None else session.shared
                version = NOTHING if copy is None else copy.version
                stored = await self.store.load_newer(name, version)
                if self._sessions.get(name) is session:
                    break
            if stored is None:
                return
            if copy is not None and stored.version < version:
                copy.is_in_doubt = True
            elif stored.content is None:
                self._forget_ended(name, stored.version)
            else:
                await self._take_over(name, stored.version, stored.content)

    def engine_of(self, session_id: str | None, token: str | None = None) -> Engine:
        """Return the engine of a session, which a token may name; the one that serves if there is no such session.

        Raises:
            InvalidToken: the token is of a model that is not held.
        """
        if token is not None and max(len(self.engines.by_id), len(self._seals)) > 1:
            return self._engine_of_token(token)
        session = None if session_id is None else self._sessions.get(_name_of(session_id))
        return self.engines.serving if session is None else session.engine

    def exists(self, session_id: str) -> bool:
        """Return whether there is a session of this id."""
        return _name_of(session_id) in self._sessions

    def num_on(self, engine: Engine) -> int:
        """Return how many sessions a model has, of all keys."""
        return sum(session.engine is engine for session in list(self._sessions.values()))

    def end_all_on(self, engine: Engine) -> None:
        """End the sessions of a model, of all keys."""
        for session in list(self._sessions.values()):
            if session.engine is engine:
                self._drop(session)

    def check_return(self, session_id: str, connection: str, task: Task) -> None:
        """Check that a connection does not go on with a session that ended when it named another one.

        Raises:
            RequestError: that would silently begin its episode again.
        """
        task_then = self._left.get((connection, session_id))
        if task_then is not None and _name_of(session_id) not in self._sessions and is_same_task(task_then, task):
            raise RequestError(
                f"session '{session_id}' ended when this connection named another one: a connection is for one robot",
                hint="open a connection for each robot; or begin a new episode with it (reset)",
            )

    def hand_over(self, session: Session, connection: str | None) -> list[Session]:
        """Note which connection uses a session; the session that it used before ends, unless another one uses it.

        Return those that have ended here; `end_shared` has them end at other servers.
        """
        ended: list[Session] = []
        if connection is not None and session.connection != connection:
            for other in list(self._sessions.values()):
                if other is not session and other.connection == connection and other.owner == session.owner:
                    self._left[connection, other.id] = other.progress.task
                    self._drop(other)
                    ended.append(other)
        session.connection = connection
        return ended

    async def end_shared(self, ended: Iterable[Session]) -> None:
        """Have sessions that have ended here end at the other servers that share them, unless one has gone on.

        Raises:
            Unavailable: the store does not answer.
        """
        for session in ended:
            if session.shared is not None and await session.shared.end():
                self._ended[session.owner, session.id] = session.shared.version

    def of(self, session_id: str) -> Session:
        """Return a session, which does not count as its use.

        Raises:
            NotFound: there is no session of this id.
        """
        self.forget_idle()
        if _name_of(session_id) not in self._sessions:
            raise _no_session(session_id)
        return self._sessions[_name_of(session_id)]

    def end(self, session_id: str) -> SessionStatus:
        """Forget a session and return its last status; a request that waits for it is answered.

        Raises:
            NotFound: there is no session of this id.
        """
        session = self._sessions.get(_name_of(session_id))
        if session is None:
            raise _no_session(session_id)
        self._drop(session)
        return status_of(session)

    async def end_everywhere(self, session_id: str) -> SessionStatus:
        """End a session at all servers that share it; else as `end`.

        Raises:
            NotFound: there is no session of this id.
            SessionGone, Unavailable: see `update`.
        """
        while self.store is not None:
            await self.update(session_id)
            session = self._sessions.get(_name_of(session_id))
            if session is None or session.shared is None:
                break
            status = status_of(session)
            if await session.shared.end():
                self._forget_ended(_name_of(session_id), session.shared.version)
                return status
        return self.end(session_id)

    def end_if_exists(self, session_id: str) -> None:
        """Forget a session, if there is one of this id."""
        if _name_of(session_id) in self._sessions:
            self.end(session_id)

    def end_watching(self) -> None:
        """Tell all who watch a session that no more of its steps come."""
        for session in self._sessions.values():
            session.answered.end()

    @property
    def num_held(self) -> int:
        """How many sessions there are, of all keys."""
        self.forget_idle()
        return len(self._sessions)

    def statuses(self) -> list[SessionStatus]:
        """Return the status of each session that the request may see, the last used one first."""
        self.forget_idle()
        visible = [session for session in self._sessions.values() if session.owner == current_owner()]
        ordered = sorted(visible, key=lambda session: session.last_used, reverse=True)
        return [status_of(session) for session in ordered]

    def keep_within_memory(self, session: Session) -> None:
        """Forget idle sessions until all images fit into `config.session_mb`; called after this session's changed."""
        num_bytes = session.progress.num_image_bytes
        if num_bytes == session.counted_bytes:
            return  # as at nearly every step
        session.counted_bytes = num_bytes
        limit = self._config.session_mb * 2**20
        while sum(each.progress.num_image_bytes for each in self._sessions.values()) > limit:
            if not self._forget_one(lambda each: each.progress.num_image_bytes):
                return

    def _lock_of(self, name: SessionKey) -> asyncio.Lock:
        """Return the lock of all who load or save a session."""
        return self._locks.setdefault(name, asyncio.Lock())

    def _forget_ended(self, name: SessionKey, version: int) -> None:
        """Forget a session that has ended at all servers, with this version."""
        self._ended[name] = version
        if name in self._sessions:
            self._drop(self._sessions[name])

    async def _take_over(self, name: SessionKey, version: int, packed: bytes) -> None:
        """Go on from the version of a session that another server has saved."""
        in_thread = len(packed) > LONG_BYTES
        try:
            engine, state = await asyncio.to_thread(self._read, packed) if in_thread else self._read(packed)
        except UnreadableContent as error:
            self._forget_ended(name, version)
            hint = "begin a new episode with it (reset), or use another session_id"
            raise SessionGone(f"the session '{name[1]}' {error}", hint=hint) from error
        session = self._sessions.get(name)
        if session is not None and session.engine is not engine:
            self._drop(session)
            session = None
        if session is None:
            begun_by = state.client, state.protocol
            session = self._begin(name[1], engine, state.settings, state.defaults, None, begun_by=begun_by)
        assert session.shared is not None, "a connection's own session is not stored"
        session.take_over(state)
        session.shared.version, session.shared.is_in_doubt = version, False

    def _read(self, packed: bytes) -> tuple[Engine, SharedState]:
        content = decoded(packed)
        for engine in list(self.engines.by_id.values()):
            if _model_name(engine) == content["model"]:
                return engine, state_of(content, engine)
        raise UnreadableContent(f"is on the model '{content['model'].partition(chr(10))[0]}', which is not held here")

    def _on_right_model(self, session: Session | None, read_for: ReadFor) -> Session | None:
        """Return a session if it is on the model that a request was read for, or on one with the same contract.

        None if it was ended, because the request begins an episode with another model.
        """
        if session is None or read_for.engine is None or read_for.engine is session.engine:
            return session
        if read_for.is_named and read_for.resets:
            if session.shared is not None:
                self._ended[session.owner, session.id] = session.shared.version
            self._drop(session)
            return None
        if read_for.is_named:
            raise RequestError(
                f"model: the session '{session.id}' is on the model '{session.engine.id}'",
                hint="leave model out, or begin a new episode with the other one (reset: true)",
            )
        if contract_differences(session.engine.spec, read_for.engine.spec):
            raise Unavailable(
                f"the session '{session.id}' is on the model '{session.engine.id}', and the request was read for"
                f" '{read_for.engine.id}', which began to serve meanwhile",
                hint="send it again",
            )
        return session

    def _engine_for(self, read_for: ReadFor) -> Engine:
        """Return the engine of a session that begins: what a client learnt of one model holds for no other."""
        engine, serving = read_for.engine, self.engines.serving
        if engine is None or engine is serving:
            return serving
        if read_for.is_named or contract_differences(engine.spec, serving.spec):
            return engine
        return serving

    def _engine_of_token(self, token: str) -> Engine:
        for engine in list(self.engines.by_id.values()):
            if self._seal(engine).has_signed(token):
                return engine
        for model, seal in list(self._seals.items()):
            if seal.has_signed(token):
                raise InvalidToken(f"the session's model '{model}' is no longer held", hint=BEGIN_NEW_SESSION)
        return self.engines.serving

    def _read_token(self, token: str) -> tuple[Engine, ResumedSession]:
        engine = self._engine_of_token(token)
        return engine, self._seal(engine).read(token, engine.spec)

    def _seal(self, engine: Engine) -> TokenSeal:
        if engine.id not in self._seals:
            self._seals[engine.id] = TokenSeal(
                self._config.cache_dir, _model_name(engine), self._config.session_token_s
            )
        return self._seals[engine.id]

    def _defaults(self, engine: Engine, executes_chunks: bool) -> SessionSettings:
        resets = self._config.session_reset_on_new_task
        return default_settings(engine.spec, reset_on_new_task=resets, executes_chunks=executes_chunks)

    def _begin(
        self,
        session_id: str,
        engine: Engine,
        settings: SessionSettings,
        defaults: SessionSettings,
        seed: int | None,
        *,
        is_of_connection: bool = False,
        begun_by: tuple[str, str] | None = None,
    ) -> Session:
        client, protocol = begun_by or (current_client.get(), current_protocol.get())
        if len(self._sessions) >= self._config.max_sessions:
            self._make_room()
        self._sessions[_name_of(session_id)] = session = Session(
            id=session_id,
            settings=settings,
            defaults=defaults,
            progress=new_progress(engine.spec, settings, secrets.randbelow(2**32) if seed is None else seed),
            engine=engine,
            clock=self._clock,
            client=client,
            owner=current_owner(),
            recorder=self._recorder_of(session_id, client),
            protocol=protocol,
            shared=None if is_of_connection else self._new_copy(_name_of(session_id), engine),
        )
        return session

    def _new_copy(self, name: SessionKey, engine: Engine) -> SharedCopy | None:
        if self.store is None:
            return None
        return SharedCopy(self.store, name, _model_name(engine), self._ended.pop(name, NOTHING), self._lock_of(name))

    def _make_room(self) -> None:
        if not self._forget_one(lambda _: 1):
            raise Overloaded(
                f"all {self._config.max_sessions} sessions of this server are in use",
                hint="end one (DELETE /sessions/{id}), or send again later; VLA_MAX_SESSIONS raises the limit",
            )

    def _forget_one(self, cost: Callable[[Session], int]) -> bool:
        """Forget the session that makes room, see `session_to_forget`; return whether there was one."""
        oldest = session_to_forget(self._sessions.values(), cost)
        if oldest is None:
            return False
        idle_s = self._clock() - oldest.last_used
        logger.info(
            "session=%s was dropped after %.1f s without a request, to make room for another", oldest.id, idle_s
        )
        self._drop(oldest)
        return True

    def forget_idle(self) -> None:
        """Forget the sessions that were not used for `config.session_idle_s`."""
        before = self._clock() - self._config.session_idle_s
        for session in list(self._sessions.values()):
            if session.last_used < before and not session.num_waiting:
                self._drop(session)

    def _drop(self, session: Session) -> None:
        del self._sessions[session.owner, session.id]
        session.close()


def _name_of(session_id: str) -> tuple[str, str]:
    """Return under what a session of this id is kept for the key of this task's request."""
    return current_owner(), session_id


def _model_name(engine: Engine) -> str:
    """Return what names a model and its checkpoint: an id that somebody chose may be another checkpoint's later."""
    return engine.id if engine.id == engine.checkpoint else f"{engine.id}\n{engine.checkpoint}"


def _no_session(session_id: str) -> NotFound:
    return NotFound(f"there is no session '{session_id[:128]}'", hint="GET /sessions lists them")


def _checked_id(session_id: str) -> str:
    if not SESSION_ID.fullmatch(session_id):
        raise RequestError(
            f"session_id: '{session_id[:80]}' is not a session id",
            hint="send 1 to 128 letters, digits or any of . _ : @ / + -",
        )
    return session_id

"""Where servers that share sessions keep them, so that another server goes on where one stopped.

Each change of a session has a version, one higher than the last. A store keeps the newest version of each session, and
takes only a higher one: of two servers that go on from the same version, one learns that the other was first.

A session may be kept in several stores. Save to each in the same order, the same one first: its answer decides. A store
that has lost everything takes the next version as any other, and `newest` leaves it out until then.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cachetools import TTLCache

from vla_server_base.errors import Overloaded

SessionKey = tuple[str, str]
"""A session's owner, which is the name of an API key or empty, and its id."""
NOTHING = 0
"""The version of a session that is not stored."""
_ITEM_BYTES = 512
"""What an item costs beside its content, about: its name, and its places in the cache's dictionaries."""


@dataclass(frozen=True, kw_only=True)
class StoredSession:
    """A version of a session; `content` is None where it has ended, and where nothing is stored (`NOTHING`)."""

    version: int
    content: bytes | None = None


@runtime_checkable
class SessionStore(Protocol):
    """The sessions of several servers. All arguments and results can be pickled."""

    async def load_newer(self, key: SessionKey, version: int) -> StoredSession | None:
        """Return what is stored of a session; None if it is the `version` that the caller has.

        A caller that has nothing asks with `NOTHING`. The result may be older than what the caller has, if the store
        has lost something.

        Raises:
            Unavailable: the store does not answer, or not in time.
        """
        ...

    async def save(self, key: SessionKey, version: int, content: bytes | None) -> bool:
        """Store a version of a session, or that it has ended (None); False if this version or a higher one is stored.

        The same once more is True, so a caller that got no answer may repeat it.

        Raises:
            Unavailable: the store does not answer, or not in time: it may have stored it nevertheless.
            Overloaded: the content is larger than the whole store.
        """
        ...


def newest(answers: Iterable[StoredSession | None], version: int) -> StoredSession | None:
    """Return what several stores that were asked for one session, with one `version`, have of it together."""
    found = [StoredSession(version=version) if answer is None else answer for answer in answers]
    last = max(found, key=lambda stored: stored.version)
    return None if last.version == version else last


class MemoryStore:
    """Sessions in the memory of this process, for one thread.

    A session that was not saved for `idle_s` is forgotten; let no server keep its own copy for longer. When the size of
    all contents reaches `max_bytes`, the least recently used session is forgotten.
    """

    def __init__(self, max_bytes: int, idle_s: float, clock: Callable[[], float] = time.monotonic):
        self._sessions: TTLCache[SessionKey, StoredSession] = TTLCache(max_bytes, idle_s, clock, _num_bytes)

    async def load_newer(self, key: SessionKey, version: int) -> StoredSession | None:
        """See `SessionStore.load_newer`; never Unavailable."""
        stored = self._sessions.get(key, StoredSession(version=NOTHING))
        return None if stored.version == version else stored

    async def save(self, key: SessionKey, version: int, content: bytes | None) -> bool:
        """See `SessionStore.save`; never Unavailable."""
        stored, new = self._sessions.get(key), StoredSession(version=version, content=content)
        if stored is not None and stored.version >= version:
            return stored == new
        if _num_bytes(new) > self._sessions.maxsize:
            raise Overloaded(
                f"the session has {_num_bytes(new)} bytes, and the session store has room for {self._sessions.maxsize}",
                hint="send smaller images, or give the session store more memory",
            )
        self._sessions[key] = new
        return True

    @property
    def num_sessions(self) -> int:
        """How many sessions are kept, also those that have ended."""
        self._sessions.expire()
        return len(self._sessions)

    @property
    def num_bytes(self) -> int:
        """The size of what is kept."""
        self._sessions.expire()
        return int(self._sessions.currsize)


def _num_bytes(stored: StoredSession) -> int:
    return _ITEM_BYTES + len(stored.content or b"")

"""SessionStoreActor: one session store as a process, which imports little and is soon replaced."""

from vla_server_base.errors import Overloaded
from vla_server_base.sessions.store import MemoryStore, SessionKey, StoredSession


class SessionStoreActor:
    """Keeps what servers save; `ClusterSessionStore` asks it."""

    def __init__(self, max_bytes: int, idle_s: float):
        self._store = MemoryStore(max_bytes, idle_s)

    async def load_newer(self, key: SessionKey, version: int) -> StoredSession | None:
        """See `SessionStore.load_newer`."""
        return await self._store.load_newer(key, version)

    async def save(self, key: SessionKey, version: int, content: bytes | None) -> bool | Overloaded:
        """See `SessionStore.save`; an error is returned: one that is raised would lose its form."""
        try:
            return await self._store.save(key, version, content)
        except Overloaded as error:
            return error

"""A server's copy of a session that several servers share: which version it is, and how it is saved."""

import asyncio
from collections.abc import Mapping
from typing import Any

from vla_server_base.errors import Superseded
from vla_server_base.sessions.content import LONG_BYTES, encoded
from vla_server_base.sessions.store import NOTHING, SessionKey, SessionStore


class ContinuedElsewhere(Superseded):
    """Another server has gone on with the session meanwhile; a step is computed again on what it has come to."""

    def __init__(self) -> None:
        super().__init__("the session continued on another server", hint="send the newest observation")


class SharedCopy:
    """What a server knows of a session's place in the store.

    `version` is the store's that this copy has or goes on from. `is_in_doubt` says that the store has lost what this
    server has: another server may have come further, and nobody knows. Who loads or saves takes its `lock` first, so
    that a server never overtakes itself.
    """

    def __init__(self, store: SessionStore, key: SessionKey, model: str, version: int, lock: asyncio.Lock):
        self._store, self._key, self.model, self.lock = store, key, model, lock
        self.version = version
        self.is_in_doubt = False

    async def save(self, content: Mapping[str, Any], num_bytes: int) -> None:
        """Save a state, of about so many bytes, as the version after the present one.

        Raises:
            ContinuedElsewhere: another server has saved that version first.
            Superseded: another server has ended the session.
            Unavailable: the store does not answer; or it has no room.
        """
        version = self.version + 1
        in_thread = num_bytes > LONG_BYTES
        async with self.lock:
            packed = await asyncio.to_thread(encoded, content) if in_thread else encoded(content)
            if not await self._store.save(self._key, version, packed):
                raise await self._why_refused(version)
            self.version, self.is_in_doubt = max(self.version, version), False

    async def end(self) -> bool:
        """Have the session end at all servers; False if another one has gone on with it."""
        async with self.lock:
            has_ended = await self._store.save(self._key, self.version + 1, None)
            self.version += has_ended
            return has_ended

    async def _why_refused(self, version: int) -> Superseded:
        stored = await self._store.load_newer(self._key, version - 1)
        if stored is not None and stored.version > NOTHING and stored.content is None:
            return Superseded("the session was ended", hint="begin a new session")
        return ContinuedElsewhere()

"""The keys that are valid now: those of the environment, and those of a file that is read again when it changes."""

import hmac
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from vla_server_base.access.key_file import others_who_read, read_keys
from vla_server_base.access.keys import Key, digest_of, utc_now
from vla_server_base.config import ConfigError

logger = logging.getLogger(__name__)

_INDEX_BYTES = 8


class KeyRing:
    """All keys of a server, found by their text.

    Each look-up asks the file system whether the file has changed, which takes about 2 us: so a key that was revoked
    is refused from the next request on. A file that cannot be read then changes nothing, and the log says so.

    Raises:
        ConfigError: the file cannot be read.
    """

    def __init__(self, path: Path | None, listed: Sequence[Key] = (), now: Callable[[], datetime] = utc_now):
        self._path, self._listed, self._now = path, listed, now
        self._seen = self._file_state()
        self._by_digest = self._indexed(read_keys(path) if path else [])
        if path is not None and (problem := others_who_read(path)):
            logger.warning("%s", problem)

    def find(self, secret: str) -> Key | None:
        """Return the key with this text, even an expired one; None if there is none."""
        return self.with_digest(digest_of(secret))

    def with_digest(self, digest: bytes) -> Key | None:
        """Return the key with this hash, as it is in the file now; None if there is none."""
        self._read_again_if_changed()
        # The table is asked for a part of the hash, the rest is compared in constant time. Even otherwise nobody could
        # learn a key from how long a look-up takes, since nobody can choose the hash of what he sends.
        for key in self._by_digest.get(digest[:_INDEX_BYTES], ()):
            if hmac.compare_digest(key.digest, digest):
                return key
        return None

    def is_expired(self, key: Key) -> bool:
        """Return whether a key's time is over."""
        return key.expires is not None and key.is_expired(self._now())

    def named(self, name: str) -> Key | None:
        """Return a key of this name, one that has not expired if there is one."""
        self._read_again_if_changed()
        same = [key for keys in self._by_digest.values() for key in keys if key.name == name]
        return min(same, key=self.is_expired, default=None)

    def __len__(self) -> int:
        """Return how many keys there are."""
        return sum(len(keys) for keys in self._by_digest.values())

    def _read_again_if_changed(self) -> None:
        state = self._file_state()
        if state == self._seen:
            return
        self._seen = state
        assert self._path is not None, "only a file changes"
        try:
            self._by_digest = self._indexed(read_keys(self._path))
        except ConfigError as error:
            logger.error("%s; until then the keys that were read last stay valid", error.as_sentence())
            return
        logger.info("read %d API keys from %s, which has changed", len(self), self._path)
        if problem := others_who_read(self._path):
            logger.warning("%s", problem)

    def _file_state(self) -> tuple[int, ...] | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev

    def _indexed(self, keys: Iterable[Key]) -> dict[bytes, list[Key]]:
        by_digest: dict[bytes, list[Key]] = {}
        for key in (*self._listed, *keys):
            by_digest.setdefault(key.digest[:_INDEX_BYTES], []).append(key)
        return by_digest

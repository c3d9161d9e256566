"""An API key as it is stored: a name, the hash, and what its holder may do.

A key is 32 random bytes, so one round of SHA-256 is the right hash: slow hashes (bcrypt, Argon2) exist for passwords,
which people choose and others can guess. Nobody guesses 256 bits, however fast the hash.
"""

import hashlib
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from vla_server_base.errors import UsageError
from vla_server_base.request_context import Priority

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Scanners for secrets in repositories and logs find keys by how they begin.
_PREFIX = "vla_"
_KEY_BYTES = 32
_DURATION = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key without its secret: `digest` is the SHA-256 of its text, and `rate` [1/s] the most requests it may send."""

    name: str
    digest: bytes
    priority: Priority = "robot"
    rate: float | None = None
    created: datetime | None = None
    expires: datetime | None = None

    def is_expired(self, now: datetime) -> bool:
        """Return whether its time is over."""
        return self.expires is not None and now >= self.expires

    @property
    def client(self) -> str:
        """What `current_client` is for its holder's requests."""
        return f"key:{self.name}"


current_key: ContextVar[Key | None] = ContextVar("current_key", default=None)
"""The key with which the request came that this task answers; None where the server has no keys."""


def current_owner() -> str:
    """Return whose sessions and episodes the request may see: those begun with its key, or all where there are no keys.

    It is the key's name, so a robot keeps its sessions when its key is replaced by a new one of the same name.
    """
    key = current_key.get()
    return "" if key is None else key.name


def new_secret() -> str:
    """Return the text of a new key."""
    return _PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def digest_of(secret: str) -> bytes:
    """Return the hash of a key's text."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def checked_name(name: str) -> str:
    """Return a name that a key may have.

    Raises:
        UsageError: it is not one.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"'{name[:80]}' is not a name for a key",
            hint="use 1 to 64 letters, digits or any of . _ - such as arm-1",
        )
    return name


def duration(text: str) -> timedelta:
    """Read a duration such as 90d, 12h, 30m or 45s.

    Raises:
        UsageError: it has another form.
    """
    matched = _DURATION.fullmatch(text)
    if matched is None:
        raise UsageError(f"'{text[:80]}' is not a duration", hint="give a number and a unit: 90d, 12h, 30m or 45s")
    return timedelta(**{_UNITS[matched[2]]: int(matched[1])})


def utc_now() -> datetime:
    """Return the time now, in whole seconds, as the file has it."""
    return datetime.now(timezone.utc).replace(microsecond=0)

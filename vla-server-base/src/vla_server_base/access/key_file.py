"""The file of API keys: JSON with names and hashes, written whole, for its owner's eyes only."""

import os
import secrets
import stat
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from vla_server_base.access.keys import NAME, Key
from vla_server_base.config import ConfigError
from vla_server_base.request_context import Priority

_MODE = 0o600
_MAX_BYTES = 16 * 2**20


class _StoredKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key in the file; the fields are those of Key."""

    name: Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    priority: Priority = msgspec.field(name="class", default="robot")
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    created: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class _StoredKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keys: list[_StoredKey]


def read_keys(path: Path) -> Sequence[Key]:
    """Return the keys of a file.

    Raises:
        ConfigError: it cannot be read, or is not a file of keys.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"the file of API keys cannot be read: {path}: {error.strerror}",
            hint="name a file that this user may read (VLA_KEYS_FILE); the command `keys new NAME` makes one",
        ) from error
    try:
        stored = msgspec.json.decode(content, type=_StoredKeys).keys
    except msgspec.DecodeError as error:
        # What the error says names places and types; it quotes nothing of the file.
        raise ConfigError(
            f"the file of API keys is damaged: {path}: {error}",
            hint="mend it, or make a new one with the command `keys new NAME`; docs/access.md describes it",
        ) from error
    return [
        Key(
            name=each.name,
            digest=bytes.fromhex(each.sha256),
            priority=each.priority,
            rate=each.rate,
            created=each.created,
            expires=each.expires,
        )
        for each in stored
    ]


def write_keys(path: Path, keys: Iterable[Key]) -> None:
    """Replace the file by one with these keys, at once and whole: a server never reads half of it.

    Raises:
        OSError: it cannot be written.
    """
    stored = [
        _StoredKey(
            name=key.name,
            sha256=key.digest.hex(),
            priority=key.priority,
            rate=key.rate,
            created=key.created,
            expires=key.expires,
        )
        for key in keys
    ]
    # A link stays a link: the file that it names is replaced.
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:
            _give_to_owner(path, file.fileno())
            file.write(msgspec.json.format(msgspec.json.encode(_StoredKeys(keys=stored))) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def only_writer(path: Path):
    """Keep other processes that change the file from doing so at the same time: two `keys new` are both kept."""
    import fcntl  # not on Windows, where only the commands that change keys are missing

    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, _MODE), "rb") as lock:
        _give_to_owner(path, lock.fileno())
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def others_who_read(path: Path) -> str:
    """Return what is wrong with a file's mode; empty if its owner alone may read and change it."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o022:
        return f"{path} has the mode {mode:04o}: others may add keys to it; chmod 600 it"
    if mode & 0o004:
        return f"{path} has the mode {mode:04o}: everybody may read the names and hashes of the keys; chmod 600 it"
    return ""


def _give_to_owner(path: Path, descriptor: int) -> None:
    """Give a new file to the old one's owner, or to its folder's: root makes keys of a server that is another user."""
    if os.getuid() == 0:
        old = (path if path.exists() else path.parent).stat()
        os.fchown(descriptor, old.st_uid, old.st_gid)

"""Session tokens: a session's state, signed, which the client keeps and sends after a restart of the server.

A token is opaque to clients: base64 of a signature (HMAC-SHA256), then MessagePack, deflated. It holds the images of
the window as they were sent, so it is about as large as an observation.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import os
import secrets
import stat
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from vla_server_base.contract import PolicySpec
from vla_server_base.errors import InvalidToken
from vla_server_base.sessions.content import (
    VERSION,
    UnreadableContent,
    decoded,
    encoded,
    progress_content,
    progress_of,
)
from vla_server_base.sessions.progress import SessionProgress
from vla_server_base.sessions.settings import SessionSettings

logger = logging.getLogger(__name__)

KEY_BYTES, SIGNATURE_BYTES = 32, 32
MAX_INFLATED_BYTES = 256 * 2**20
KEY_FILE = "session.key"
BEGIN_NEW_SESSION = "begin a new session: leave session_token out"


@dataclass(frozen=True, kw_only=True)
class ResumedSession:
    """The session that a token holds."""

    id: str
    settings: SessionSettings
    progress: SessionProgress
    owner: str
    is_too_old: bool


class TokenSeal:
    """Signs and reads tokens; a token of one model's server is invalid at another model's."""

    def __init__(self, folder: Path, model_id: str, max_age_s: float):
        key_file = folder / KEY_FILE
        try:
            key = _stored_key(key_file)
        except OSError as error:
            logger.warning(
                "%s cannot be stored (%s): session tokens become invalid when this server ends",
                key_file,
                error.strerror,
            )
            key = secrets.token_bytes(KEY_BYTES)
        self._key = hmac.digest(key, model_id.encode(), "sha256")
        self._max_age_s = max_age_s

    def has_signed(self, token: str) -> bool:
        """Return whether this model's server signed a token."""
        try:
            sealed = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(sealed[:SIGNATURE_BYTES], self._signature(sealed[SIGNATURE_BYTES:]))

    def content(
        self, session_id: str, settings: SessionSettings, progress: SessionProgress, owner: str = ""
    ) -> dict[str, Any]:
        """Return the content of a token; arrays are not copied. `owner` is the session's."""
        return {
            "version": VERSION,
            "expires": time.time() + self._max_age_s,
            "id": session_id,
            "owner": owner,
            "settings": msgspec.to_builtins(settings),
            "progress": progress_content(progress),
        }

    def sealed(self, content: Mapping[str, Any]) -> str:
        """Return the token; not for the event loop."""
        packed = zlib.compress(encoded(content), 1)
        return base64.b64encode(self._signature(packed) + packed).decode("ascii")

    def read(self, token: str, spec: PolicySpec) -> ResumedSession:
        """Return the session that a token holds; not for the event loop.

        Raises:
            InvalidToken: it was not signed here, or not by this version, or its chunks are not such as the policy's.
        """
        try:
            sealed = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidToken(
                "the session token is not base64", hint="send session.token unchanged, as the server sent it"
            ) from error
        signature, packed = sealed[:SIGNATURE_BYTES], sealed[SIGNATURE_BYTES:]
        # Check the signature before reading any of the content.
        if not hmac.compare_digest(signature, self._signature(packed)):
            raise InvalidToken("the session token was not signed by this server, or is damaged", hint=BEGIN_NEW_SESSION)
        try:
            content = decoded(zlib.decompressobj().decompress(packed, MAX_INFLATED_BYTES))
            settings = msgspec.convert(content["settings"], SessionSettings)
            progress = progress_of(content["progress"], spec, settings)
        except UnreadableContent as error:
            raise InvalidToken(f"the session token {error}", hint=BEGIN_NEW_SESSION) from error
        return ResumedSession(
            id=content["id"],
            # Tokens of servers without keys have none.
            owner=content.get("owner", ""),
            settings=settings,
            progress=progress,
            is_too_old=content["expires"] < time.time(),
        )

    def _signature(self, packed: bytes) -> bytes:
        return hmac.digest(self._key, packed, "sha256")


def _stored_key(path: Path) -> bytes:
    """Return the key in a file that only its owner can read; make a new one if it is missing or cannot be trusted."""
    if path.exists() and (why := _distrust(path)):
        logger.warning("%s %s: it is replaced, and earlier session tokens are refused", path, why)
        path.unlink()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            # Another server may have made one meanwhile: then use that one.
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return hashlib.sha256(path.read_bytes()).digest()


def _distrust(path: Path) -> str:
    """Return why others may know or guess a key; empty if they cannot."""
    status = path.stat()
    if status.st_uid != os.getuid():
        return f"belongs to the user {status.st_uid}, and this process runs as {os.getuid()}"
    if status.st_mode & 0o077:
        return f"has the mode {stat.S_IMODE(status.st_mode):04o}, which lets others read or write it"
    if status.st_size < KEY_BYTES:
        return f"has {status.st_size} bytes, and a key has {KEY_BYTES}"
    return ""

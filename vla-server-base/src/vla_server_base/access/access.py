"""Access: which key a request came with, and whether it is valid. Transports ask it before anything else."""

import logging
from pathlib import Path

from vla_server_base.access.key_ring import KeyRing
from vla_server_base.access.keys import Key, current_key
from vla_server_base.access.listed_keys import listed_keys
from vla_server_base.access.logins import Logins
from vla_server_base.access.wrong_keys import MAX_WRONG, WrongKeys
from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import TooManyWrongKeys, Unauthorized
from vla_server_base.request_context import current_address, current_client, current_priority, current_rate

logger = logging.getLogger(__name__)

# RFC 6750, section 2.1; openpi's client sends Api-Key.
_SCHEMES = ("bearer", "api-key")
_HOW = "send the header Authorization: Bearer KEY; the command `keys new NAME` makes a key"


class Access:
    """The keys of one server. Without any, everybody is admitted; `binding` then keeps the server on this machine.

    Raises:
        ConfigError: the keys of the settings cannot be read.
    """

    def __init__(self, config: ServerConfig):
        self._ring = _ring_of(config)
        self._wrong_keys = WrongKeys()
        self.logins = Logins()
        if self._ring is not None and not len(self._ring):
            logger.warning("there are no API keys: every request is refused until `keys new NAME` makes one")

    @property
    def has_keys(self) -> bool:
        """Whether a request needs a key; also where all of them were revoked."""
        return self._ring is not None

    def admit_header(self, authorization: str | None) -> None:
        """Admit the request of this task by its header `Authorization`, if the server has keys.

        Raises:
            Unauthorized, TooManyWrongKeys: it has no key, or a wrong one, or one that has expired.
        """
        if self._ring is None:
            return
        scheme, _, secret = (authorization or "").strip().partition(" ")
        if scheme and scheme.lower() not in _SCHEMES:
            raise Unauthorized("the header Authorization has neither Bearer nor Api-Key", hint=_HOW)
        self.admit_secret(secret.strip(), _HOW)

    def admit_secret(self, secret: str, how: str) -> None:
        """Admit the request of this task by a key's text; `how` tells a client of this protocol how to send one.

        Raises:
            Unauthorized, TooManyWrongKeys: see `admit_header`.
        """
        if self._ring is None:
            return
        if not secret:
            raise Unauthorized("this server needs an API key, and the request has none", hint=how)
        key = self._ring.find(secret)
        if key is None:
            raise self._wrong_key()
        self._begin(key)

    def admit_login(self, cookie: str) -> None:
        """Admit the request of this task by the cookie of a login.

        Raises:
            Unauthorized: the login has ended, or its key was revoked or has expired.
        """
        if self._ring is None:
            return
        digest = self.logins.digest(cookie)
        key = None if digest is None else self._ring.with_digest(digest)
        if key is None:
            raise Unauthorized("the login has ended", hint="log in again with a key")
        self._begin(key)

    def admit_name(self, name: str) -> None:
        """Admit the request of this task as that of a key that a setting names.

        Raises:
            Unauthorized: there is no such key, or it has expired.
        """
        if self._ring is None:
            return
        key = self._ring.named(name)
        if key is None:
            raise Unauthorized(f"there is no longer an API key '{name}'", hint=f"`keys new {name}` makes one")
        self._begin(key)

    def check_still_admitted(self) -> None:
        """Check the key of a connection that was admitted before, at each of its messages; its class stays.

        Raises:
            Unauthorized: the key was revoked or has expired since.
        """
        key = current_key.get()
        if self._ring is None or key is None:
            return
        now = self._ring.with_digest(key.digest)
        if now is None:
            raise Unauthorized(f"the API key '{key.name}' was revoked", hint=_HOW)
        self._admit(now)

    def check_name(self, setting: str, name: str) -> None:
        """Check that a setting names a key that exists.

        Raises:
            ConfigError: it does not.
        """
        if name and (self._ring is None or self._ring.named(name) is None):
            raise ConfigError(f"{setting}={name} names no API key", hint=f"`keys new {name}` makes it")

    def _begin(self, key: Key) -> None:
        """Admit what begins with a key, in the key's class; the header X-Priority may lower it later."""
        self._admit(key)
        current_priority.set(key.priority)

    def _admit(self, key: Key) -> None:
        assert self._ring is not None, "there is a key"
        if self._ring.is_expired(key):
            raise Unauthorized(
                f"the API key '{key.name}' has expired ({key.expires:%Y-%m-%d %H:%M} UTC)",
                hint=f"`keys new {key.name} --rotate 0s` makes a new one",
            )
        current_key.set(key)
        current_rate.set(key.rate)
        current_client.set(key.client)

    def _wrong_key(self) -> Unauthorized | TooManyWrongKeys:
        address = current_address.get()
        if self._wrong_keys.count(address) > MAX_WRONG:
            return TooManyWrongKeys(f"{address} has sent too many wrong API keys", hint="correct the key, and wait")
        return Unauthorized(
            "the API key is not one of this server's", hint="check it for a typing error; it may have been revoked"
        )


def _ring_of(config: ServerConfig) -> KeyRing | None:
    """Return the keys of the settings; None where they name none."""
    listed = listed_keys(config.api_keys)
    if not (config.keys_file or listed):
        return None
    return KeyRing(Path(config.keys_file).expanduser() if config.keys_file else None, listed)

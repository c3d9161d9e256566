"""Logins of people: a cookie that stands for a key in a browser, for some hours."""

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Callable

from cachetools import TTLCache

from vla_server_base.access.keys import Key

LOGIN_S = 12 * 3600
"""How long a login lasts: a working day."""
_DIGEST_BYTES, _TIME_BYTES, _NONCE_BYTES, _SIGNATURE_BYTES = 32, 8, 12, 32
_MAX_ENDED = 100_000


class Logins:
    """Makes cookies, and reads those that it made: each has a key's hash, the end of its life and a signature.

    The server stores nothing for a login. The secret that signs them is as old as the process, so a restart ends all
    logins, and the file of hashes does not suffice to make one.
    """

    def __init__(self, clock: Callable[[], float] = time.time):
        self._secret, self._clock = secrets.token_bytes(32), clock
        self._ended: TTLCache[bytes, bool] = TTLCache(_MAX_ENDED, LOGIN_S, timer=clock)

    def begin(self, key: Key) -> str:
        """Return the cookie of a new login."""
        ends = round(self._clock() + LOGIN_S).to_bytes(_TIME_BYTES, "big")
        content = key.digest + ends + secrets.token_bytes(_NONCE_BYTES)
        return base64.urlsafe_b64encode(content + self._signature(content)).decode("ascii")

    def digest(self, cookie: str) -> bytes | None:
        """Return the hash of the key that a cookie stands for; None if it is not valid, or no longer."""
        try:
            signed = base64.b64decode(cookie, b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        content, signature = signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(content)) or content in self._ended:
            return None
        ends = int.from_bytes(content[_DIGEST_BYTES : _DIGEST_BYTES + _TIME_BYTES], "big")
        return content[:_DIGEST_BYTES] if self._clock() < ends else None

    def end(self, cookie: str) -> None:
        """Have a valid cookie be valid no longer, even if somebody has copied it."""
        if self.digest(cookie) is not None:
            self._ended[base64.b64decode(cookie, b"-_")[:-_SIGNATURE_BYTES]] = True

    def _signature(self, content: bytes) -> bytes:
        return hmac.digest(self._secret, content, "sha256")

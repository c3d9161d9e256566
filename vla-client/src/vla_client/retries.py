"""Retries when a server does not answer: with pauses that double, for a limited time."""

import logging
import random
import ssl
import time
from typing import Optional

import msgspec
from websockets.exceptions import InvalidStatus, InvalidURI

from vla_client.errors import Unauthorized, Unreachable, refused_key

logger = logging.getLogger(__name__)

_TOO_MANY_REQUESTS = 429
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
# TLS 1.3 refuses a client only after the handshake: it looks like a connection that was cut.
_CERTIFICATE_HINT = ", and if it asks for certificates give client_cert"


class Retries:
    """The attempts to get one answer; none starts later than `limit_s` after the first failure."""

    def __init__(self, url: str, limit_s: float):
        self._url, self._limit_s = url, limit_s
        self._num_failed = 0
        self._until: Optional[float] = None

    @property
    def left_s(self) -> float:
        """The time that is left for further attempts."""
        return self._limit_s if self._until is None else max(0.0, self._until - time.monotonic())

    def pause_after(self, error: Exception) -> None:
        """Wait until the next attempt is due after one that failed with `error`.

        Raises:
            Unauthorized: the server refuses the API key.
            Unreachable: no time is left, or another attempt would fail in the same way.
        """
        self._until = time.monotonic() + self.left_s
        self._num_failed += 1
        pause_s = self._pause_s()
        if isinstance(error, InvalidStatus) and _is_about_the_key(error):
            raise refused_key(_reason(bytes(error.response.body or b""))) from error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise Unreachable(
                f"the certificate of {self._url} cannot be trusted: {error.verify_message}",
                hint="give the CA that signed it: Policy(url, ca_file=...), or the variable VLA_CA_FILE",
            ) from error
        if _is_permanent(error):
            raise Unreachable(
                f"{self._url} is not the address of a policy server: {_described(error)}",
                hint="give the address as in ws://127.0.0.1:8002",
            ) from error
        if pause_s >= self.left_s:
            raise Unreachable(
                f"no answer from {self._url} in {self._num_failed} attempts, "
                f"repeated for {self._limit_s:g} s; the last one failed with {_described(error)}",
                hint=f"check that the server runs{_CERTIFICATE_HINT if self._url.startswith('wss:') else ''};"
                " the next step tries again, for up to reconnect_s",
            ) from error
        if self._num_failed == 1:
            logger.warning("%s did not answer (%s), trying again for %g s", self._url, _described(error), self._limit_s)
        time.sleep(pause_s)

    def _pause_s(self) -> float:
        """Return how long to wait: not at all the first time, since most broken connections can be replaced at once."""
        if self._num_failed == 1:
            return 0.0
        pause_s = min(_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S * 2 ** min(self._num_failed - 2, 16))
        # Robots that lost the same server should not all reconnect at the same moment.
        return pause_s * random.uniform(0.5, 1.0)


def _is_about_the_key(error: InvalidStatus) -> bool:
    # A server that has had many wrong keys from this address says so with 429.
    return error.response.status_code == Unauthorized.status or b"too_many_wrong_keys" in (error.response.body or b"")


def _is_permanent(error: Exception) -> bool:
    if isinstance(error, InvalidStatus):
        return 400 <= error.response.status_code < 500 and error.response.status_code != _TOO_MANY_REQUESTS
    return isinstance(error, InvalidURI)


def _described(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"HTTP {error.response.status_code}, {_reason(bytes(error.response.body or b''))}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _reason(body: bytes) -> str:
    """Return the reason for a refused handshake, from the server or from a proxy in front of it."""
    try:
        error = msgspec.json.decode(body)["error"]
        return f"{error['code']}: {error['message']}"
    except (msgspec.DecodeError, LookupError, TypeError):
        return body[:200].decode(errors="replace") or "without a reason"

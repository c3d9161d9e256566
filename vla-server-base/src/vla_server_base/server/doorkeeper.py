"""Which requests need an API key, and where HTTP requests and WebSocket handshakes carry it."""

import asyncio

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from vla_server_base.access.access import Access
from vla_server_base.errors import Forbidden, TooManyWrongKeys
from vla_server_base.server.origins import Origins

_READS = ("GET", "HEAD")
# Probes do not have keys; and the page without which nobody could type one: its files, which are the same everywhere.
_OPEN = ("/live", "/health", "/")
_OPEN_FOLDER = "/console/"
_WRONG_KEYS_PAUSE_S = 1.0
_COOKIE = "vla_login"


class Doorkeeper:
    """Admits requests that have a key or need none; for servers with keys."""

    def __init__(self, access: Access, origins: Origins):
        self._access, self._origins = access, origins

    async def admit(self, scope: Scope) -> None:
        """Let a request pass if it may, as its key's.

        Raises:
            Unauthorized: it needs a key, and has none that is valid.
            TooManyWrongKeys: the same, and its address has sent many wrong ones; raised after a pause.
            Forbidden: it may come from another page, as far as a browser's cookie tells.
        """
        headers = Headers(scope=scope)
        if _is_open(scope) or self._is_preflight(scope, headers):
            return
        authorization, cookie = headers.get("authorization"), login_cookie(headers)
        try:
            if authorization is None and cookie and scope["type"] == "http":
                _check_own_page(scope["method"], headers)
                self._access.admit_login(cookie)
            else:
                self._access.admit_header(authorization)
        except TooManyWrongKeys:
            # One connection sends one wrong key a second, and an address has only so many connections.
            await asyncio.sleep(_WRONG_KEYS_PAUSE_S)
            raise

    def check_still_admitted(self) -> None:
        """Check that the key of this task's request is valid still; raises Unauthorized where it is not."""
        self._access.check_still_admitted()

    def _is_preflight(self, scope: Scope, headers: Headers) -> bool:
        """Return whether a browser asks for an allowed page what it may send; it never sends a key with that."""
        origin = headers.get("origin", "").lower()
        is_question = scope["type"] == "http" and scope["method"] == "OPTIONS"
        return is_question and "access-control-request-method" in headers and origin in self._origins.allowed


def cookie_name(headers: Headers) -> str:
    """Return the name of the login's cookie: browsers send a host's cookies to all its ports, so the port is in it."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"{_COOKIE}_{port}" if port.isdecimal() else _COOKIE


def login_cookie(headers: Headers) -> str:
    """Return the value of the login's cookie; empty if there is none."""
    return cookie_parser(headers.get("cookie", "")).get(cookie_name(headers), "")


def _is_open(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] not in _READS:
        return False
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return path in _OPEN or path.startswith(_OPEN_FOLDER)


def _check_own_page(method: str, headers: Headers) -> None:
    """Check that what a browser sends with its cookie comes from this server's page, where it changes anything.

    `Origins` has refused other origins; this refuses a browser that does not say whose page sends the request.
    """
    says = "origin" in headers or headers.get("sec-fetch-site") == "same-origin"
    if method not in _READS and not says:
        raise Forbidden(
            "a login's cookie came without the header Origin", hint="programs send Authorization: Bearer KEY"
        )

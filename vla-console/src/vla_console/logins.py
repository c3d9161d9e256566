"""ProxiedLogins at servers behind the console: their cookies, kept apart in the browser by server."""

from dataclasses import dataclass

import httpx
from starlette.requests import Request

_COOKIE = "vla_login"


@dataclass(frozen=True)
class ProxiedLogins:
    """What tells server `index` at `url` who asks: a key that was given to the console, or the cookie of a login.

    The browser keeps the cookie under a name of the console's own: it sends all cookies of 127.0.0.1 to every port, and
    those of servers on this machine are for no other server.
    """

    index: int
    url: str
    api_key: str

    @property
    def _prefix(self) -> str:
        return f"console{self.index}_"

    def for_server(self, request: Request) -> list[tuple[bytes, bytes]]:
        """Return the headers that a request to the server gets."""
        if self.api_key and "authorization" not in request.headers:
            return [(b"authorization", f"Bearer {self.api_key}".encode())]
        cookies = [
            f"{name.removeprefix(self._prefix)}={value}"
            for name, value in request.cookies.items()
            if name.startswith(self._prefix + _COOKIE)
        ]
        if not cookies:
            return []
        # The console has checked whose page asks, so the server may take it for its own.
        return [(b"cookie", "; ".join(cookies).encode("latin-1")), (b"origin", self.url.lower().encode())]

    def of_answer(self, headers: httpx.Headers) -> list[tuple[bytes, bytes]]:
        """Return the headers with which the browser keeps what a login gave."""
        kept = []
        for value in headers.get_list("set-cookie"):
            if value.startswith(_COOKIE):
                cookie, *attributes = value.split("; ")
                # The console is on http: a cookie that is Secure would not come back.
                own = [each for each in attributes if each.lower() != "secure" and not each.lower().startswith("path=")]
                fields = [self._prefix + cookie, *own, f"Path=/servers/{self.index}/"]
                kept.append((b"set-cookie", "; ".join(fields).encode("latin-1")))
        return kept

"""Which web pages may use the console: its own, under a name of this machine.

Any page that somebody has open can send requests to 127.0.0.1, and by DNS rebinding (its own host name resolves to
127.0.0.1) read the replies; the servers behind the console would move a robot for it.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vla_console.errors import ConsoleError

_NAMES = ("127.0.0.1", "localhost", "::1")
_HINT = "open the console at the address that `vla-console` prints"


class SameOrigin:
    """ASGI middleware that refuses requests of other pages."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                check_origin(scope["method"], Headers(scope=scope))
            except ConsoleError as error:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check_origin(method: str, headers: Headers) -> None:
    """Let a request of the console's own page pass, and of programs, which send neither Origin nor Sec-Fetch-Site.

    Raises:
        ConsoleError: another page sends it, or it names another host.
    """
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or _name(hosts[0]) not in _NAMES:
        named = ", ".join(hosts)[:80]
        raise ConsoleError(403, "forbidden", f"this console is not known as '{named}'", hint=_HINT)
    if origins and [origin.lower() for origin in origins] != [f"http://{hosts[0].lower()}"]:
        message = f"a web page of another origin, '{origins[0][:80]}', sends this request"
        raise ConsoleError(403, "forbidden", message, hint=_HINT)
    site = headers.get("sec-fetch-site", "none")
    # A link to the console may be followed; a frame within another page is not a visit.
    is_visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    if site not in ("none", "same-origin") and not (method == "GET" and is_visit):
        message = f"a web page of another origin sends this request (Sec-Fetch-Site: {site[:80]})"
        raise ConsoleError(403, "forbidden", message, hint=_HINT)


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None

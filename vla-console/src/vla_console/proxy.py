"""The console for servers elsewhere: the page, and behind it server i at /servers/<i>/, so that all have one origin."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from vla_console.errors import ConsoleError
from vla_console.logins import ProxiedLogins
from vla_console.page import ServerEntry, page_routes
from vla_console.same_origin import SameOrigin

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
# An answer may take as long as an episode; only a server that cannot be reached is given up.
_TIMEOUT = httpx.Timeout(None, connect=3.0)
_NAME_TIMEOUT_S = 1.0
# RFC 9110, section 7.6.1: these are about one connection.
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade"}
_NOT_SENT_ON = {*_HOP_BY_HOP, "transfer-encoding", "host", "origin", "referer", "cookie"}
_NOT_SENT_BACK = {*_HOP_BY_HOP, "transfer-encoding", "set-cookie"}
# What nginx logs when the client went away before its answer.
_CLIENT_GONE = 499


def console_app(urls: Sequence[str], api_key: str = "") -> Starlette:
    """Return an app that shows the servers at these addresses.

    Requests carry `api_key`; without one, the cookies of logins at the servers are passed on.

    >>> app = console_app(["http://gpu-box:8002", "http://gpu-box:8003"])
    """
    client = httpx.AsyncClient(timeout=_TIMEOUT, limits=httpx.Limits(max_connections=None), trust_env=False)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    async def list_servers() -> list[ServerEntry]:
        names = await asyncio.gather(*(_name_of(client, url) for url in urls))
        return [ServerEntry(name=name, base=f"/servers/{index}/") for index, name in enumerate(names)]

    async def forward(request: Request) -> Response:
        index: int = request.path_params["index"]
        if index >= len(urls):
            message = f"there is no server {index}; this console shows {len(urls)}"
            raise ConsoleError(404, "not_found", message, hint="GET /console/servers.json lists them")
        return await _forwarded(client, urls[index], request, ProxiedLogins(index, urls[index], api_key))

    return Starlette(
        routes=[*page_routes(list_servers), Route("/servers/{index:int}/{path:path}", forward, methods=_METHODS)],
        middleware=[Middleware(SameOrigin)],
        exception_handlers={ConsoleError: _answer_error, HTTPException: _answer_http_exception},
        lifespan=lifespan,
    )


async def _name_of(client: httpx.AsyncClient, url: str) -> str:
    """Return how people tell a server from the others: its model, where it answers, and its address."""
    address = httpx.URL(url).netloc.decode()
    with suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
        health = await client.get(f"{url}/health", timeout=_NAME_TIMEOUT_S)
        return f"{health.json()['model']} at {address}"
    return address


async def _forwarded(client: httpx.AsyncClient, url: str, request: Request, logins: ProxiedLogins) -> Response:
    """Return the server's answer, which is passed on as it comes."""
    try:
        answer = await client.send(_request_to(client, url, request, logins), stream=True)
    except ClientDisconnect:
        return Response(status_code=_CLIENT_GONE)
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        hint = "start the server, or check the address that was given to `vla-console`"
        raise ConsoleError(
            502, "server_unreachable", f"the server at {url} does not answer: {reason}", hint=hint
        ) from error
    response = StreamingResponse(_body_of(answer), answer.status_code)
    response.raw_headers = [(name, value) for name, value in answer.headers.raw if _lower(name) not in _NOT_SENT_BACK]
    response.raw_headers += logins.of_answer(answer.headers)
    # A page that such a server sends is shown without the rights of the console's own.
    response.headers["Content-Security-Policy"] = "sandbox"
    return response


def _request_to(client: httpx.AsyncClient, url: str, request: Request, logins: ProxiedLogins) -> httpx.Request:
    # As the client wrote it: in `request.url.path` an escaped slash of a session's name is a slash.
    path = request.scope["raw_path"].split(b"/", 3)[3].decode("ascii")
    query = request.scope["query_string"].decode("ascii")
    headers = [(name, value) for name, value in request.headers.raw if _is_sent_on(_lower(name))]
    headers += logins.for_server(request)
    has_body = "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
    target = f"{url}/{path}" + (f"?{query}" if query else "")
    return client.build_request(request.method, target, headers=headers, content=request.stream() if has_body else None)


def _is_sent_on(name: str) -> bool:
    return name not in _NOT_SENT_ON and not name.startswith("sec-")


def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


async def _body_of(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        # Whoever has left cancels this task, and with it each wait.
        with anyio.CancelScope(shield=True):
            await answer.aclose()


async def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ConsoleError)
    return error.response()


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """Give the framework's own errors (no such file, wrong method) the form of ours."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:80]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        known = ConsoleError(
            405, "method_not_allowed", f"{path} does not accept {request.method}", hint=f"it accepts: {allowed}"
        )
    else:
        known = ConsoleError(404, "not_found", f"there is nothing at {path}", hint="the page is at /")
    return known.response(dict(error.headers or {}))

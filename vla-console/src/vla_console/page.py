"""The page over HTTP: its files, with the headers that keep it to itself, and the list of servers that it shows."""

from collections.abc import Awaitable, Callable
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vla_console import static_dir
from vla_console.compressed_files import CompressedFiles

# The page asks its own origin only. A scene's textures are images with blob: addresses.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "style-src 'self' 'unsafe-inline'",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
# A browser keeps the files, and asks by ETag whether they are still the same.
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class ServerEntry(TypedDict):
    """A server that the page can show: its name, and the address under which the page reaches it."""

    name: str
    base: str


def is_built() -> bool:
    """Return whether the page exists; in a clone that was cleaned it does not until the package is installed again."""
    return (static_dir() / "index.html").is_file()


def page_routes(list_servers: Callable[[], Awaitable[list[ServerEntry]]]) -> list[Route]:
    """Return the routes of the page, for a Starlette or FastAPI app; they raise its HTTPException for what is missing.

    >>> app.router.routes.extend(page_routes(list_servers))
    """
    files = CompressedFiles(directory=static_dir())

    async def file(request: Request) -> Response:
        response = await files.get_response(request.path_params.get("path", "index.html"), request.scope)
        response.headers.update(_HEADERS)
        return response

    async def servers(_request: Request) -> Response:
        return JSONResponse({"servers": await list_servers()}, headers={**_HEADERS, "Cache-Control": "no-store"})

    return [
        Route("/", file, include_in_schema=False),
        Route("/console/servers.json", servers, include_in_schema=False),
        Route("/console/{path:path}", file, include_in_schema=False),
    ]

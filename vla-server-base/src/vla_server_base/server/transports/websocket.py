"""WebSockets: one connection for each robot, in the protocol of its path."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, WebSocket
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from vla_server_base.errors import MethodNotAllowed, NotFound, Unavailable, UpgradeRequired, VLAError
from vla_server_base.server.error_replies import deny_socket
from vla_server_base.server.service import Service
from vla_server_base.server.transports.openpi_socket import serve_openpi
from vla_server_base.server.transports.vla_eval_socket import serve_vla_eval
from vla_server_base.server.transports.websocket_connection import SocketConnection

PATHS = ("/", "/vla-eval")
_LEAVING_POLLS, _LEAVING_POLL_S = 50, 0.01
_METHODS = ("GET", "POST", "PUT", "DELETE")

router = APIRouter()


@router.websocket("/")
async def openpi_socket(socket: WebSocket) -> None:
    """Serve a client of openpi's or RoboArena's."""
    await _serve(socket, serve_openpi)


@router.websocket("/vla-eval")
async def vla_eval_socket(socket: WebSocket) -> None:
    """Serve a client of vla-eval's."""
    await _serve(socket, serve_vla_eval)


@router.get("/vla-eval", include_in_schema=False)
async def vla_eval_without_socket() -> None:
    """Tell a browser that this path takes WebSockets."""
    raise UpgradeRequired("/vla-eval only accepts WebSockets", hint="connect to ws://.../vla-eval, as vla-eval does")


def not_found_app(http_app: ASGIApp) -> ASGIApp:
    """Return what answers addresses of no route: WebSockets with the paths that take them, others by `http_app`."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await deny_socket(_no_socket_here(WebSocket(scope, receive, send)), scope, receive, send)
        else:
            await http_app(scope, receive, send)

    return answer


def _no_socket_here(socket: WebSocket) -> VLAError:
    path, paths = socket.scope["path"], " and ".join(PATHS)
    methods = _http_methods(socket)
    if methods:
        hint = f"it accepts: {', '.join(methods)}; WebSockets are at {paths}"
        return MethodNotAllowed(f"{path[:80]} does not accept WebSockets", hint=hint)
    return NotFound(f"there is no WebSocket at {path[:80]}", hint=f"WebSockets are at {paths}")


def _http_methods(socket: WebSocket) -> list[str]:
    """Return the HTTP methods that an address takes."""
    scopes = [{**socket.scope, "type": "http", "method": method} for method in _METHODS]
    matches = [[route.matches(scope)[0] for route in socket.app.routes] for scope in scopes]
    return [method for method, results in zip(_METHODS, matches, strict=True) if Match.FULL in results]


async def _serve(socket: WebSocket, serve_client: Callable[[SocketConnection], Awaitable[None]]) -> None:
    """Accept a connection, or refuse it; serve its client, and close it in good order."""
    connection = SocketConnection(socket)
    service = connection.service
    try:
        await _make_room(service)
        with service.connections.take():
            with service.shutdown.running():
                if service.engine.status.state == "broken":
                    _ = service.engine.spec
            await _serve_accepted(socket, connection, serve_client)
    except Unavailable as error:
        await deny_socket(error, socket.scope, socket.receive, socket.send)


async def _make_room(service: Service) -> None:
    """If all connections are in use, close the quietest one and wait until it has ended."""
    if not service.connections.are_taken or not service.traffic.make_way_for_socket():
        return
    for _ in range(_LEAVING_POLLS):
        if not service.connections.are_taken:
            return
        await asyncio.sleep(_LEAVING_POLL_S)


async def _serve_accepted(
    socket: WebSocket, connection: SocketConnection, serve_client: Callable[[SocketConnection], Awaitable[None]]
) -> None:
    started = time.perf_counter()
    await socket.accept()
    try:
        await serve_client(connection)
    except WebSocketDisconnect:
        pass
    except (asyncio.TimeoutError, TimeoutError, Unavailable) as error:
        await connection.close_after(error)
    finally:
        connection.service.sessions.end_if_exists(connection.session_id)
        connection.log("seconds=%.1f session=%s", time.perf_counter() - started, connection.session_id)

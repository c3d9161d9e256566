"""WebSockets: one conversation for each connection, in the protocol of its path."""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from vla_server_base.contract import PolicySpec
from vla_server_base.edge import told_of
from vla_server_base.errors import ModelUnavailable, ProtocolError, VLAError
from vla_server_base.protocols import openpi
from vla_server_base.service import Service
from vla_server_base.timing import ms_since
from vla_server_base.turn import TurnRequest, take_turn

logger = logging.getLogger(__name__)

_POLL_S = 0.1
_TRY_AGAIN_LATER = 1013

router = APIRouter()


@router.websocket("/")
async def openpi_socket(socket: WebSocket) -> None:
    """Talk as openpi's server and RoboArena's do."""
    service: Service = socket.app.state.service
    async with _conversation(socket) as own_session:
        try:
            # Clients wait for the first frame without a limit, so that a policy may load while they do.
            spec = await _loaded(service)
        except ModelUnavailable as error:
            await socket.send_text(openpi.write_error(error, _new_id()))
            await socket.close(_TRY_AGAIN_LATER)
            return
        reader = service.observation_reader
        await socket.send_bytes(openpi.greeting(spec, reader.keys))

        async def answer(frame: bytes) -> bytes | str:
            started = time.perf_counter()
            request = await asyncio.to_thread(openpi.read, frame, reader)
            read_ms = ms_since(started)
            if isinstance(request, openpi.Reset):
                service.sessions.open(request.session_id or own_session).reset(request.seed)
                return openpi.RESET_DONE
            reply = await take_turn(service.sessions, _in_session(request, own_session))
            timing = {"read": read_ms, "queue": reply.answer.queue_ms, "infer": reply.answer.infer_ms}
            return openpi.write(reply, timing | {"total": ms_since(started)})

        async for frame in _frames(socket):
            await _send(socket, await _answered(frame, answer, openpi.write_error))


@asynccontextmanager
async def _conversation(socket: WebSocket) -> AsyncIterator[str]:
    """Accept a connection and give the id of its own session, which ends with it."""
    service: Service = socket.app.state.service
    own_session = f"socket:{secrets.token_hex(8)}"
    started = time.perf_counter()
    await socket.accept()
    try:
        yield own_session
    except WebSocketDisconnect:
        pass
    finally:
        service.sessions.end_if_there(own_session)
        client = socket.client.host if socket.client else "-"
        seconds = time.perf_counter() - started
        logger.info("socket path=%s seconds=%.1f client=%s session=%s", socket.url.path, seconds, client, own_session)


async def _loaded(service: Service) -> PolicySpec:
    """Wait until the policy is loaded, and return what it is.

    Raises:
        ModelUnavailable: it could not be.
    """
    while service.engine.status.state == "loading":
        await asyncio.sleep(_POLL_S)
    return service.engine.spec


async def _frames(socket: WebSocket) -> AsyncIterator[bytes | None]:
    """Give each frame, None for one of text, until the client leaves."""
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        yield message.get("bytes")


async def _answered(
    frame: bytes | None,
    answer: Callable[[bytes], Awaitable[bytes | str]],
    write_error: Callable[[VLAError, str], bytes | str],
) -> bytes | str:
    """Return what a frame is answered with: whatever goes wrong, an answer."""
    request_id = _new_id()
    try:
        if frame is None:
            raise ProtocolError("a frame of text came, where binary ones are taken")
        return await answer(frame)
    except Exception as error:
        return write_error(told_of(error, request_id), request_id)


async def _send(socket: WebSocket, answer: bytes | str) -> None:
    await (socket.send_text(answer) if isinstance(answer, str) else socket.send_bytes(answer))


def _in_session(request: TurnRequest, own_session: str) -> TurnRequest:
    """Return a turn in the connection's own session, unless it names another."""
    if request.session_id is not None or request.token is not None:
        return request
    return replace(request, session_id=own_session)


def _new_id() -> str:
    return uuid.uuid4().hex

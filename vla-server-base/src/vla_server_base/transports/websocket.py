"""WebSockets: one conversation for each connection, in the protocol of its path."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from vla_server_base.edge import new_request_id, told_of
from vla_server_base.errors import ModelUnavailable, Overloaded, VLAError
from vla_server_base.protocols import openpi, vla_eval
from vla_server_base.service import Service
from vla_server_base.timing import Stopwatch, ms_since
from vla_server_base.turn import take_turn

logger = logging.getLogger(__name__)

_GOING_AWAY, _TRY_AGAIN_LATER = 1001, 1013

Frame = bytes | str
Answer = Callable[[Frame], Awaitable[Frame | None]]
WriteError = Callable[[VLAError, str], Frame]

router = APIRouter()


@router.websocket("/")
async def openpi_socket(socket: WebSocket) -> None:
    """Talk as openpi's server and RoboArena's do."""

    async def talk_on(talk: _Talk) -> None:
        service = talk.service
        # Clients wait for the first frame without a limit, so that a policy may load while they do.
        await talk.service.policy_loaded()
        reader = service.observation_reader
        await talk.send(openpi.greeting(reader))

        async def answer(frame: Frame) -> Frame:
            watch = Stopwatch()
            request = await asyncio.to_thread(openpi.read, frame, reader)
            watch.lap("read")
            if isinstance(request, openpi.Reset):
                service.sessions.open(request.session_id or talk.own_session).reset(request.seed)
                return openpi.RESET_DONE
            reply = await take_turn(service.sessions, request.turn.in_session(talk.own_session))
            watch.lap("answer")
            return openpi.write(reply, request, watch)

        await talk.go_on(answer)

    await _converse(socket, openpi.write_error, talk_on)


@router.websocket("/vla-eval")
async def vla_eval_socket(socket: WebSocket) -> None:
    """Talk as vla-eval's model servers do."""
    # Of the message that is being answered: errors say it too.
    seq = 0

    def write_error(error: VLAError, request_id: str) -> bytes:
        return vla_eval.write_error(error, request_id, seq)

    async def talk_on(talk: _Talk) -> None:
        sessions = talk.service.sessions

        async def answer(frame: Frame) -> Frame | None:
            nonlocal seq
            watch = Stopwatch()
            message = await asyncio.to_thread(vla_eval.read, frame)
            seq = message.seq
            if message.kind == "hello":
                await talk.service.policy_loaded()
                return vla_eval.greeting(talk.service.engine.spec, seq)
            if message.kind == "episode_start":
                fields = vla_eval.read_start(message)
                sessions.open(fields.session_id or talk.own_session).reset(fields.seed)
            elif message.kind == "observation":
                reader = talk.service.observation_reader
                request = await asyncio.to_thread(vla_eval.read_observation, message, reader)
                watch.lap("read")
                reply = await take_turn(sessions, request.in_session(talk.own_session))
                watch.lap("answer")
                return vla_eval.write(reply, message, watch)
            return None

        await talk.go_on(answer)

    await _converse(socket, write_error, talk_on)


class _Talk:
    """One connection, with a session of its own, which ends with it."""

    def __init__(self, socket: WebSocket, write_error: WriteError):
        self.service: Service = socket.app.state.service
        self.own_session = f"socket:{secrets.token_hex(8)}"
        self._socket, self._write_error = socket, write_error

    async def go_on(self, answer: Answer) -> None:
        """Answer each frame, whatever goes wrong with it, until the client leaves or says nothing any more."""
        idle_s = self.service.config.connection_idle_s
        while (frame := await asyncio.wait_for(self._next_frame(), idle_s)) is not None:
            request_id = new_request_id()
            try:
                reply = await answer(frame)
            except Exception as error:
                reply = self._write_error(told_of(error, request_id), request_id)
            if reply is not None:
                await self.send(reply)

    async def send(self, frame: Frame) -> None:
        """Send a frame, of text or of bytes."""
        await (self._socket.send_text(frame) if isinstance(frame, str) else self._socket.send_bytes(frame))

    async def refuse(self, error: VLAError) -> None:
        """Say why there is no conversation, and end it."""
        request_id = new_request_id()
        await self.send(self._write_error(told_of(error, request_id), request_id))
        await self._socket.close(_TRY_AGAIN_LATER)

    async def leave(self) -> None:
        """End a conversation in which nothing is said."""
        await self._socket.close(_GOING_AWAY, "nothing was said for too long")

    async def _next_frame(self) -> Frame | None:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        found = message.get("bytes")
        return message["text"] if found is None else found


async def _converse(socket: WebSocket, write_error: WriteError, talk_on: Callable[[_Talk], Awaitable[None]]) -> None:
    """Accept a connection, have the talk on it, and end it in good order."""
    talk = _Talk(socket, write_error)
    started = time.perf_counter()
    await socket.accept()
    try:
        await _until_its_end(talk, talk_on)
    except WebSocketDisconnect:
        pass
    finally:
        talk.service.sessions.end_if_there(talk.own_session)
        logger.info(
            "socket path=%s seconds=%.1f client=%s session=%s",
            socket.url.path,
            ms_since(started) / 1e3,
            socket.client.host if socket.client else "-",
            talk.own_session,
        )


async def _until_its_end(talk: _Talk, talk_on: Callable[[_Talk], Awaitable[None]]) -> None:
    try:
        with talk.service.connections.take():
            await talk_on(talk)
    except (Overloaded, ModelUnavailable) as error:
        await talk.refuse(error)
    except (asyncio.TimeoutError, TimeoutError):
        await talk.leave()

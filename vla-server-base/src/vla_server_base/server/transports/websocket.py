"""WebSockets: one conversation for each connection, in the protocol of its path."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from fastapi import APIRouter, WebSocket
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from vla_server_base.errors import (
    MethodNotAllowed,
    ModelUnavailable,
    NotFound,
    Superseded,
    Unavailable,
    UpgradeRequired,
    VLAError,
)
from vla_server_base.protocols import openpi, vla_eval
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.request_context import begin_request, current_request_id, logged_path
from vla_server_base.server.error_replies import client_error, deny_socket, reason_of
from vla_server_base.server.service import Service
from vla_server_base.sessions.step import EpisodeRequest, TurnRequest, begin_episode, take_turn

logger = logging.getLogger(__name__)

PATHS = ("/", "/vla-eval")
_GOING_AWAY, _SERVICE_RESTART, _TRY_AGAIN_LATER = 1001, 1012, 1013
_LEAVING_POLLS, _LEAVING_POLL_S = 50, 0.01
_METHODS = ("GET", "POST", "PUT", "DELETE")

Frame = bytes | str
Answer = Callable[[Frame], Awaitable[Frame | None]]

router = APIRouter()


@router.websocket("/")
async def openpi_socket(socket: WebSocket) -> None:
    """Talk as openpi's server and RoboArena's do."""
    await _converse(socket, _talk_as_openpi)


@router.websocket("/vla-eval")
async def vla_eval_socket(socket: WebSocket) -> None:
    """Talk as vla-eval's model servers do."""
    await _converse(socket, _talk_as_vla_eval)


@router.get("/vla-eval", include_in_schema=False)
async def vla_eval_without_socket() -> None:
    """Say that there is more than meets a browser."""
    raise UpgradeRequired("/vla-eval takes WebSockets alone", hint="connect to ws://.../vla-eval, as vla-eval does")


def or_told_where(otherwise: ASGIApp) -> ASGIApp:
    """Return what answers at addresses of no route: WebSockets are told where there are some, others by `otherwise`."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await deny_socket(_told_where(WebSocket(scope, receive, send)), scope, receive, send)
        else:
            await otherwise(scope, receive, send)

    return answer


def _told_where(socket: WebSocket) -> VLAError:
    path, paths = socket.scope["path"], " and ".join(PATHS)
    methods = _http_methods(socket)
    if methods:
        hint = f"it takes: {', '.join(methods)}; WebSockets are at {paths}"
        return MethodNotAllowed(f"{path[:80]} does not take WebSockets", hint=hint)
    return NotFound(f"there is no WebSocket at {path[:80]}", hint=f"WebSockets are at {paths}")


async def _talk_as_openpi(talk: "_Talk") -> None:
    service = talk.service
    try:
        # Clients wait for the first frame without a limit, so that a policy may load while they do.
        await service.policy_loaded()
    except ModelUnavailable as error:
        await talk.refuse(openpi.write_error(*talk.told(error)))
        return
    reader = service.observation_reader
    await talk.send(openpi.greeting(reader))

    async def answered(frame: Frame) -> Frame:
        watch = Stopwatch()
        request = await asyncio.to_thread(openpi.read, frame, reader)
        watch.lap("read")
        if isinstance(request, EpisodeRequest):
            begin_episode(service.sessions, request, talk.own_session)
            return openpi.RESET_DONE
        reply = await take_turn(service.sessions, request.turn.on_connection(talk.own_session))
        watch.lap("answer")
        return openpi.write(reply, request, watch)

    async def answer(frame: Frame) -> Frame:
        try:
            return await answered(frame)
        except Exception as error:
            return openpi.write_error(*talk.told(error))

    await talk.go_on(answer)


async def _talk_as_vla_eval(talk: "_Talk") -> None:
    service, newest = talk.service, _Newest(talk)
    seq = 0

    async def taken(frame: Frame) -> Frame | None:
        nonlocal seq
        watch = Stopwatch()
        message = await asyncio.to_thread(vla_eval.read, frame)
        seq = message.seq
        if message.kind == "hello":
            await service.policy_loaded()
            return vla_eval.greeting(service.engine.spec, seq)
        if message.kind == "episode_start":
            await newest.leave_out()
            request = await asyncio.to_thread(vla_eval.read_start, message, service.observation_reader)
            begin_episode(service.sessions, request, talk.own_session)
        elif message.kind == "observation":
            request = await asyncio.to_thread(vla_eval.read_observation, message, service.observation_reader)
            watch.lap("read")
            await newest.put(_Observed(request, message, current_request_id.get(), watch))
        return None

    async def take(frame: Frame) -> Frame | None:
        try:
            return await taken(frame)
        except Exception as error:
            return vla_eval.write_error(*talk.told(error), seq)

    answering = asyncio.create_task(newest.answer_all())
    try:
        await talk.go_on(take)
    except Unavailable:
        await newest.answered()
        raise
    finally:
        answering.cancel()
        await asyncio.wait([answering])


@dataclass(frozen=True)
class _Observed:
    """An observation that waits for its turn."""

    request: TurnRequest
    message: vla_eval.Message
    request_id: str
    watch: Stopwatch


class _Newest:
    """The newest observation of a connection, answered as soon as the one before is.

    A client in vla-eval's live mode does not wait for answers. Each observation that is overtaken while it waits is
    told so, and is a step that was skipped. The one that the policy is busy with is answered all the same: where
    observations come faster than answers, none would be otherwise.
    """

    def __init__(self, talk: "_Talk"):
        self._talk = talk
        self._waiting: _Observed | None = None
        self._has_come = asyncio.Event()
        self._num_skipped = 0
        self._busy = asyncio.Lock()

    async def answered(self) -> None:
        """Wait for the answer that is in the making."""
        async with self._busy:
            pass

    async def put(self, observed: _Observed) -> None:
        """Have an observation answered next, in place of the one that waits."""
        overtaken, self._waiting = self._waiting, observed
        self._has_come.set()
        if overtaken is not None:
            self._num_skipped += 1
            await self._tell(overtaken, Superseded("a newer observation of this connection has come"))

    async def leave_out(self) -> None:
        """Answer none of the present episode any more."""
        left_out, self._waiting, self._num_skipped = self._waiting, None, 0
        self._has_come.clear()
        if left_out is not None:
            await self._tell(left_out, Superseded("a new episode has begun"))

    async def answer_all(self) -> None:
        """Answer one after the other until the client is gone."""
        with suppress(WebSocketDisconnect):
            while True:
                await self._has_come.wait()
                observed, num_skipped = self._waiting, self._num_skipped
                assert observed is not None, "the event says that there is one"
                self._waiting, self._num_skipped = None, 0
                self._has_come.clear()
                begin_request(observed.request_id)
                async with self._busy:
                    await self._answer(observed, num_skipped)

    async def _answer(self, observed: _Observed, num_skipped: int) -> None:
        talk, request = self._talk, replace(observed.request, num_skipped=num_skipped)
        try:
            with talk.service.shutdown.running():
                reply = await take_turn(talk.service.sessions, request.on_connection(talk.own_session))
            observed.watch.lap("answer")
            answer = vla_eval.write(reply, observed.message, observed.watch)
        except Exception as error:
            await self._tell(observed, error)
        else:
            await talk.send(answer)

    async def _tell(self, observed: _Observed, error: Exception) -> None:
        told = self._talk.told(error, observed.request_id)
        await self._talk.send(vla_eval.write_error(*told, observed.message.seq))


class _Talk:
    """One connection, with a session of its own, which ends with it."""

    def __init__(self, socket: WebSocket):
        self.service: Service = socket.app.state.service
        self.own_session = f"socket:{secrets.token_hex(8)}"
        self._socket = socket

    async def go_on(self, answer: Answer) -> None:
        """Answer each frame until the client leaves or says nothing any more, or the server is shutting down."""
        shutdown = self.service.shutdown
        ending = asyncio.create_task(shutdown.begun.wait())
        try:
            while (frame := await self._next_frame(ending)) is not None:
                begin_request()
                with shutdown.running():
                    reply = await answer(frame)
                    if reply is not None:
                        await self.send(reply)
        finally:
            ending.cancel()

    async def send(self, frame: Frame) -> None:
        """Send a frame, of text or of bytes."""
        await (self._socket.send_text(frame) if isinstance(frame, str) else self._socket.send_bytes(frame))

    def told(self, error: Exception, request_id: str | None = None) -> tuple[VLAError, str]:
        """Return what the client is told of an error, with its request's id, and log why it is refused."""
        request_id = request_id or current_request_id.get()
        told = client_error(error)
        _log(self._socket, "session=%s request_id=%s%s", self.own_session, request_id, reason_of(told))
        return told, request_id

    async def refuse(self, said: Frame) -> None:
        """Say why there is no conversation, and end it."""
        await self.send(said)
        await self._socket.close(_TRY_AGAIN_LATER)

    async def leave(self, error: Exception) -> None:
        """End a conversation in which nothing is said, or that the server's end cuts short."""
        if isinstance(error, Unavailable):
            await self._socket.close(_SERVICE_RESTART, error.message)
        else:
            await self._socket.close(_GOING_AWAY, "nothing was said for too long")

    async def _next_frame(self, ending: "asyncio.Task[bool]") -> Frame | None:
        receiving = asyncio.ensure_future(self._socket.receive())
        try:
            idle_s = self.service.config.connection_idle_s
            await asyncio.wait({receiving, ending}, timeout=idle_s, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                with self.service.shutdown.running():
                    raise asyncio.TimeoutError
            message = receiving.result()
        finally:
            receiving.cancel()
        if message["type"] == "websocket.disconnect":
            return None
        found = message.get("bytes")
        return message["text"] if found is None else found


async def _converse(socket: WebSocket, talk_on: Callable[[_Talk], Awaitable[None]]) -> None:
    """Accept a connection, unless it is refused, have the talk on it, and end it in good order."""
    talk = _Talk(socket)
    service = talk.service
    try:
        await _make_way(service)
        with service.connections.take():
            with service.shutdown.running():
                if service.engine.status.state == "broken":
                    _ = service.engine.spec
            await _until_its_end(socket, talk, talk_on)
    except Unavailable as error:
        await deny_socket(error, socket.scope, socket.receive, socket.send)


async def _make_way(service: Service) -> None:
    """Where there is no place, have the quietest connection leave, and wait until it has."""
    if not service.connections.are_taken or not service.traffic.make_way_for_socket():
        return
    for _ in range(_LEAVING_POLLS):
        if not service.connections.are_taken:
            return
        await asyncio.sleep(_LEAVING_POLL_S)


async def _until_its_end(socket: WebSocket, talk: _Talk, talk_on: Callable[[_Talk], Awaitable[None]]) -> None:
    started = time.perf_counter()
    await socket.accept()
    try:
        await talk_on(talk)
    except WebSocketDisconnect:
        pass
    except (asyncio.TimeoutError, TimeoutError, Unavailable) as error:
        await talk.leave(error)
    finally:
        talk.service.sessions.end_if_there(talk.own_session)
        _log(socket, "seconds=%.1f session=%s", time.perf_counter() - started, talk.own_session)


def _http_methods(socket: WebSocket) -> list[str]:
    """Return how the address can be asked over HTTP; with none, there is nothing."""
    asked = [{**socket.scope, "type": "http", "method": method} for method in _METHODS]
    matches = [[route.matches(each)[0] for route in socket.app.routes] for each in asked]
    return [method for method, found in zip(_METHODS, matches, strict=True) if Match.FULL in found]


def _log(socket: WebSocket, said: str, *arguments: object) -> None:
    client = socket.client.host if socket.client else "-"
    logger.info(f"socket path=%s client=%s {said}", logged_path(socket.scope["path"]), client, *arguments)

"""LeRobot's asynchronous inference over gRPC, on loopback alone: a session for each connection.

A client gets its answers by asking for actions all the time, and is answered with the chunk for the newest observation
that it has sent by then. Unlike LeRobot's own server this one loads no model that a client names, leaves out no
observation for being like the last, and says what is wrong with one.
"""

import asyncio
import logging
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from vla_server_base.config import ConfigError
from vla_server_base.errors import Late, Overloaded, ProtocolError, VLAError
from vla_server_base.extras import how_to_install
from vla_server_base.request_context import begin_request
from vla_server_base.server.error_replies import client_error, reason_of
from vla_server_base.server.in_flight import Body, Shutdown
from vla_server_base.server.service import Service
from vla_server_base.sessions.step import take_turn

try:
    import grpc
    import grpc.aio

    from vla_server_base.protocols import lerobot
except ModuleNotFoundError as missing:
    raise ConfigError(
        f"VLA_LEROBOT_PORT: LeRobot's protocol takes {missing.name}",
        hint=how_to_install("lerobot"),
    ) from missing

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
ANSWER_S = 2.0
"""How long a client that asks for actions waits for some; LeRobot's own server's time."""
TRANSFER_S = 60.0
"""How long the chunks of one observation may take."""
MAX_CHUNK_BYTES = 4 * 2**20
MAX_METADATA_BYTES = 2**14
_MAX_STREAMS = 8
_KEEPALIVE_MS = 60_000
_DAY_S = 24 * 3600.0
_GRACE_S = 1.0

CODES: Mapping[int, grpc.StatusCode] = MappingProxyType(
    {
        404: grpc.StatusCode.NOT_FOUND,
        408: grpc.StatusCode.DEADLINE_EXCEEDED,
        409: grpc.StatusCode.ABORTED,
        413: grpc.StatusCode.RESOURCE_EXHAUSTED,
        422: grpc.StatusCode.INVALID_ARGUMENT,
        500: grpc.StatusCode.INTERNAL,
        503: grpc.StatusCode.UNAVAILABLE,
        504: grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""What an error's HTTP status is to gRPC."""

Context = grpc.aio.ServicerContext
Answer = Callable[[Any, str], Awaitable[bytes]]


@asynccontextmanager
async def serving_lerobot(service: Service, port: int) -> AsyncIterator[int]:
    """Serve LeRobot's clients on a port of 127.0.0.1, 0 for a free one, and give the port.

    Raises:
        ConfigError: the port cannot be had.
    """
    robots = Robots(service)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_CHUNK_BYTES),
            # Or a second server could take the same port, and get half of the connections.
            ("grpc.so_reuseport", 0),
            # A client has three calls at a time; one that has vanished, or never was one, is let go.
            ("grpc.max_concurrent_streams", _MAX_STREAMS),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.server_handshake_timeout_ms", round(service.config.head_timeout_s * 1e3)),
            ("grpc.max_connection_idle_ms", round(min(service.config.connection_idle_s, _DAY_S) * 1e3)),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
        ],
        # Each client asks for actions, and sends an observation meanwhile.
        maximum_concurrent_rpcs=2 * service.config.max_connections,
    )
    server.add_generic_rpc_handlers((_handlers(_Calls(service, robots), service.shutdown),))
    try:
        bound = server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError as error:
        raise ConfigError(f"VLA_LEROBOT_PORT={port}: {HOST}:{port} cannot be listened on") from error
    await server.start()
    logger.info("LeRobot's clients are served on %s:%d", HOST, bound)
    try:
        yield bound
    finally:
        await server.stop(_GRACE_S)
        robots.forget_all()


class Robot:
    """What is kept of one client: what it asks for, its newest observation, and the answer in the making."""

    def __init__(self, peer: str):
        self.session_id = f"lerobot:{peer}"
        self.setup = lerobot.Setup()
        self.last_used = time.monotonic()
        self.receiving = asyncio.Lock()
        self._newest: lerobot.TimedTurn | None = None
        self._has_come = asyncio.Event()
        self._answered: int | None = None
        self._work: asyncio.Task[bytes] | None = None

    def put(self, turn: lerobot.TimedTurn) -> None:
        """Keep an observation in place of the last, unless it is of a timestep that is answered and may be left out."""
        if turn.must_go or turn.timestep != self._answered:
            self._newest = turn
            self._has_come.set()

    async def actions(self, service: Service) -> bytes:
        """Return the answer to the newest observation; nothing where there is none within `ANSWER_S`.

        A policy that takes longer is not asked anew: its answer is the next call's.

        Raises:
            Superseded, RequestError, Unavailable: see `take_turn`.
        """
        if self._work is None:
            self._work = asyncio.ensure_future(self._next_answer(service))
            # Marked as seen: where the client is gone, nobody awaits it.
            self._work.add_done_callback(lambda done: done.cancelled() or done.exception())
        work = self._work
        await asyncio.wait([work], timeout=ANSWER_S)
        if not work.done() or work.cancelled():
            return b""
        if self._work is work:
            self._work = None
        return work.result()

    def close(self) -> None:
        """Forget what is being done."""
        if self._work is not None:
            self._work.cancel()

    async def _next_answer(self, service: Service) -> bytes:
        await self._has_come.wait()
        turn, self._newest = self._newest, None
        self._has_come.clear()
        assert turn is not None, "the event says that there is one"
        reply = await take_turn(service.sessions, turn.request.on_connection(self.session_id))
        self._answered = turn.timestep
        if self._newest is not None and self._newest.timestep == turn.timestep and not self._newest.must_go:
            self._newest = None
            self._has_come.clear()
        return lerobot.write_actions(turn, reply, self.setup)


class Robots:
    """The clients by their connections; gRPC does not say when one ends, so that idle ones are forgotten."""

    def __init__(self, service: Service):
        self._service = service
        self._robots: dict[str, Robot] = {}

    def of(self, peer: str) -> Robot:
        """Return what is kept of a client, new to begin with.

        Raises:
            Overloaded: there are as many as may be.
        """
        self._forget_idle()
        if peer not in self._robots:
            max_robots = self._service.config.max_connections
            if len(self._robots) >= max_robots:
                raise Overloaded(
                    f"{max_robots} robots are connected, which is the most here",
                    hint="send again later; VLA_MAX_CONNECTIONS raises the limit",
                )
            self._robots[peer] = Robot(peer)
        robot = self._robots[peer]
        robot.last_used = time.monotonic()
        return robot

    def forget(self, peer: str) -> None:
        """Forget a client, and end its session."""
        robot = self._robots.pop(peer, None)
        if robot is not None:
            robot.close()
            self._service.sessions.end_if_there(robot.session_id)

    def forget_all(self) -> None:
        """Forget all clients."""
        for peer in list(self._robots):
            self.forget(peer)

    def _forget_idle(self) -> None:
        before = time.monotonic() - self._service.config.session_idle_s
        for peer, robot in list(self._robots.items()):
            if robot.last_used < before:
                self.forget(peer)


class _Calls:
    """What each call is answered with: the bytes of a message."""

    def __init__(self, service: Service, robots: Robots):
        self._service, self._robots = service, robots

    async def ready(self, _: bytes, peer: str) -> bytes:
        """Begin anew, for this client alone."""
        self._robots.forget(peer)
        self._robots.of(peer)
        return b""

    async def set_up(self, message: bytes, peer: str) -> bytes:
        """Take what a client asks for, once the policy is there."""
        robot = self._robots.of(peer)
        robot.setup = await asyncio.to_thread(lerobot.read_setup, message)
        served = await self._service.policy_loaded()
        named = robot.setup.named_model[:80]
        logger.info("client=%s asks for %r, which is not loaded; it is served %s", peer, named, served.model)
        return b""

    async def observe(self, chunks: AsyncIterator[bytes], peer: str) -> bytes:
        """Take an observation."""
        robot, reader = self._robots.of(peer), self._service.observation_reader
        # One at a time: whole observations are held in memory.
        async with robot.receiving:
            message = await self._whole(chunks)
            robot.put(await asyncio.to_thread(lerobot.read_observation, message, reader, robot.setup))
        return b""

    async def act(self, _: bytes, peer: str) -> bytes:
        """Answer with actions."""
        return await self._robots.of(peer).actions(self._service)

    async def _whole(self, chunks: AsyncIterator[bytes]) -> lerobot.ChunkedMessage:
        """Take a whole observation, which has to find room among all bodies, and to come in time, as they have."""
        task, refusal = asyncio.current_task(), None

        def give_up(error: VLAError) -> None:
            nonlocal refusal
            refusal = error
            assert task is not None, "a call is answered in a task"
            task.cancel()

        body = self._service.traffic.bodies.open(give_up)
        try:
            max_bytes = self._service.config.max_body_mb * 2**20
            return await asyncio.wait_for(_message(chunks, max_bytes, body), TRANSFER_S)
        except asyncio.TimeoutError as error:
            raise Late(f"the observation had not come within {TRANSFER_S:.0f} s") from error
        except asyncio.CancelledError:
            if refusal is None:
                raise
            raise refusal from None
        finally:
            body.close()


async def _message(chunks: AsyncIterator[bytes], max_bytes: int, body: Body) -> lerobot.ChunkedMessage:
    message = lerobot.ChunkedMessage(max_bytes)
    async for chunk in chunks:
        body.came(len(chunk))
        if message.add(chunk):
            return message
    raise ProtocolError("the stream ended before the observation did", hint="its last chunk is TRANSFER_END")


def _handlers(calls: _Calls, shutdown: Shutdown) -> grpc.GenericRpcHandler:
    unary, streamed = grpc.unary_unary_rpc_method_handler, grpc.stream_unary_rpc_method_handler
    methods = {
        "Ready": unary(_told("Ready", calls.ready, shutdown)),
        "SendPolicyInstructions": unary(_told("SendPolicyInstructions", calls.set_up, shutdown)),
        "SendObservations": streamed(_told("SendObservations", calls.observe, shutdown)),
        "GetActions": unary(_told("GetActions", calls.act, shutdown)),
    }
    return grpc.method_handlers_generic_handler(lerobot.SERVICE, methods)


def _address(peer: str) -> str:
    """Return the address of whom gRPC calls `ipv4:127.0.0.1:5555` or `ipv6:%5B::1%5D:5555`."""
    return urllib.parse.unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _told(name: str, answer: Answer, shutdown: Shutdown) -> Callable[[Any, Context], Awaitable[bytes]]:
    """Return a call that ends in an answer or in a code and a sentence, and in one line of the log."""

    async def call(request: Any, context: Context) -> bytes:
        started, request_id = time.perf_counter(), begin_request(client=_address(context.peer()))
        code, found, error = grpc.StatusCode.OK, b"", None
        try:
            with shutdown.running():
                found = await answer(request, context.peer())
        except Exception as raised:
            error = client_error(raised)
            code = CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
        logger.info(
            "grpc call=%s status=%s ms=%.1f client=%s request_id=%s%s",
            name,
            code.name,
            1e3 * (time.perf_counter() - started),
            context.peer(),
            request_id,
            reason_of(error),
        )
        if error is not None:
            await context.abort(code, error.as_text(request_id))
        return found

    return call

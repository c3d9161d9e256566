"""LeRobot's asynchronous inference over gRPC, on loopback alone: a session for each connection.

A client polls for actions, and gets the chunk for the newest observation that it has sent. Unlike LeRobot's own server,
this one does not load a model that a client names, does not skip observations that look like the last one, and reports
what is wrong with one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vla_server_base.config import ConfigError, ServerConfig
from vla_server_base.errors import DeadlinePassed, ProtocolError, VLAError
from vla_server_base.extras import how_to_install
from vla_server_base.server.in_flight import OpenBody
from vla_server_base.server.service import Service

try:
    import grpc
    import grpc.aio

    from vla_server_base.protocols import lerobot
    from vla_server_base.server.transports.grpc_calls import CallHandler, ReportingCall, reporting
    from vla_server_base.server.transports.lerobot_clients import LerobotClients
except ModuleNotFoundError as missing:
    raise ConfigError(
        f"VLA_LEROBOT_PORT: LeRobot's protocol needs {missing.name}",
        hint=how_to_install("lerobot"),
    ) from missing

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
TRANSFER_S = 60.0
"""The longest time for all chunks of one observation."""
MAX_CHUNK_BYTES = 4 * 2**20
MAX_METADATA_BYTES = 2**14
_MAX_STREAMS = 8
_KEEPALIVE_MS = 60_000
_DAY_S = 24 * 3600.0
_GRACE_S = 1.0


@asynccontextmanager
async def serving_lerobot(service: Service, port: int) -> AsyncIterator[int]:
    """Serve LeRobot's clients on a port of 127.0.0.1, 0 for a free one, and yield the port.

    Raises:
        ConfigError: the port cannot be opened.
    """
    clients = LerobotClients(service)
    server = grpc.aio.server(
        options=_options(service.config),
        # Each client asks for actions, and sends an observation meanwhile.
        maximum_concurrent_rpcs=2 * service.config.max_connections,
    )
    server.add_generic_rpc_handlers((_handlers(_Calls(service, clients), service),))
    try:
        bound = server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError as error:
        raise ConfigError(
            f"VLA_LEROBOT_PORT={port}: cannot listen on {HOST}:{port}", hint="set a port that is free"
        ) from error
    await server.start()
    logger.info("serving LeRobot's clients on %s:%d", HOST, bound)
    try:
        yield bound
    finally:
        await server.stop(_GRACE_S)
        clients.forget_all()


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", MAX_CHUNK_BYTES),
        # Or a second server could take the same port, and get half of the connections.
        ("grpc.so_reuseport", 0),
        # A client makes three calls at a time; one that has vanished is disconnected.
        ("grpc.max_concurrent_streams", _MAX_STREAMS),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.server_handshake_timeout_ms", round(config.head_timeout_s * 1e3)),
        ("grpc.max_connection_idle_ms", round(min(config.connection_idle_s, _DAY_S) * 1e3)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
    ]


class _Calls:
    """The reply to each call: the bytes of a message."""

    def __init__(self, service: Service, clients: LerobotClients):
        self._service, self._clients = service, clients

    async def ready(self, _: bytes, peer: str) -> bytes:
        """Begin a new session for this client."""
        self._clients.forget(peer)
        self._clients.of(peer)
        return b""

    async def set_up(self, message: bytes, peer: str) -> bytes:
        """Keep what a client asks for, and wait until the policy is loaded."""
        client = self._clients.of(peer)
        client.setup = await asyncio.to_thread(lerobot.read_setup, message)
        served = await self._service.policy_loaded()
        named = client.setup.named_model[:80]
        logger.info("client=%s asks for %r and gets %s, the model that is loaded", peer, named, served.model)
        return b""

    async def observe(self, chunks: AsyncIterator[bytes], peer: str) -> bytes:
        """Keep an observation."""
        client = self._clients.of(peer)
        reader = self._service.reader_for(client.session_id)
        self._service.rates.check_current()
        # One at a time: whole observations are held in memory.
        async with client.receiving:
            message = await self._whole(chunks)
            with self._service.monitor.timed("read"):
                step = await asyncio.to_thread(lerobot.read_observation, message, reader, client.setup)
            client.put(step)
        return b""

    async def act(self, _: bytes, peer: str) -> bytes:
        """Return actions."""
        return await self._clients.of(peer).actions(self._service)

    async def _whole(self, chunks: AsyncIterator[bytes]) -> lerobot.ChunkedMessage:
        """Receive a whole observation within the limits of memory and time that all request bodies have."""
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
            raise DeadlinePassed(
                f"the observation had not come within {TRANSFER_S:.0f} s", hint="send smaller images"
            ) from error
        except asyncio.CancelledError:
            if refusal is None:
                raise
            raise refusal from None
        finally:
            body.close()


async def _message(chunks: AsyncIterator[bytes], max_bytes: int, body: OpenBody) -> lerobot.ChunkedMessage:
    message = lerobot.ChunkedMessage(max_bytes)
    async for chunk in chunks:
        body.came(len(chunk))
        if message.add(chunk):
            return message
    raise ProtocolError("the stream ended before the observation did", hint="mark the last chunk TRANSFER_END")


def _handlers(calls: _Calls, service: Service) -> grpc.GenericRpcHandler:
    unary, streamed = grpc.unary_unary_rpc_method_handler, grpc.stream_unary_rpc_method_handler
    key_name = service.config.lerobot_key

    def admit(authorization: str | None) -> None:
        if authorization is None and key_name:
            service.access.admit_name(key_name)
        else:
            service.access.admit_header(authorization)

    def method(name: str, handler: CallHandler) -> ReportingCall:
        return reporting(name, handler, service, admit)

    methods = {
        "Ready": unary(method("Ready", calls.ready)),
        "SendPolicyInstructions": unary(method("SendPolicyInstructions", calls.set_up)),
        "SendObservations": streamed(method("SendObservations", calls.observe)),
        "GetActions": unary(method("GetActions", calls.act)),
    }
    return grpc.method_handlers_generic_handler(lerobot.SERVICE, methods)

"""A ZeroMQ socket for GR00T's clients; each client has a session."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vla_server_base.config import ConfigError
from vla_server_base.extras import how_to_install
from vla_server_base.monitoring.running_request import RunningRequest
from vla_server_base.protocols import gr00t
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.request_context import begin_request, client_fields, current_protocol, current_request_id
from vla_server_base.server.error_replies import client_error, reason_of
from vla_server_base.server.service import Service
from vla_server_base.sessions.step import begin_episode, run_step

try:
    import zmq
    import zmq.asyncio
except ImportError as error:
    raise ConfigError("VLA_ZMQ_PORT: GR00T's clients need pyzmq", hint=how_to_install("zmq")) from error

logger = logging.getLogger(__name__)

UNREAD = "unread"
"""The route of a message that could not be read."""

_HEARTBEAT_MS = 30_000
_HOW_TO_SEND_A_KEY = "give it to GR00T's PolicyClient as api_token; the command `keys new NAME` makes a key"


@asynccontextmanager
async def serving_gr00t(service: Service, host: str, port: int) -> AsyncIterator[int]:
    """Serve GR00T's clients, and yield the port; 0 takes a free one.

    Raises:
        ConfigError: the port is in use.
    """
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.IPV6, ":" in host)
        # A larger message ends its client's connection.
        socket.set(zmq.MAXMSGSIZE, service.config.max_body_mb * 2**20)
        # GR00T's clients wait for each reply: further messages stay in the client's kernel, and replies that it does
        # not read are dropped.
        socket.set(zmq.RCVHWM, 1)
        socket.set(zmq.SNDHWM, 2)
        # A peer that does not speak ZeroMQ, or no longer answers, is disconnected.
        socket.set(zmq.HANDSHAKE_IVL, round(service.config.head_timeout_s * 1e3))
        socket.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, 2 * _HEARTBEAT_MS)
        try:
            socket.bind(f"tcp://{f'[{host}]' if ':' in host else host}:{port}")
        except zmq.ZMQError as error:
            raise ConfigError(
                f"VLA_ZMQ_PORT: cannot listen on {host}:{port} ({error})", hint="set a port that is free"
            ) from error
        answering = asyncio.create_task(_answer_all(service, socket))
        try:
            yield int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        finally:
            answering.cancel()
            await asyncio.wait([answering])


async def _answer_all(service: Service, socket: "zmq.asyncio.Socket") -> None:
    """Answer many clients at once: one that waits does not hold up the others."""
    # At the limit, messages stay in the sockets' queues.
    free = asyncio.Semaphore(service.config.max_connections)
    tasks: set[asyncio.Task[None]] = set()
    # Clients of N1.5: a message without an observation does not show the release.
    n15_clients: deque[bytes] = deque(maxlen=service.config.max_connections)

    async def answer(parts: "list[zmq.Frame]") -> None:
        client, *envelope, message = (part.bytes for part in parts)
        begin_request(client=str(parts[-1].get("Peer-Address")))
        current_protocol.set("gr00t")
        try:
            await socket.send_multipart(
                [client, *envelope, await _reply_or_error(service, client, message, n15_clients)]
            )
        finally:
            free.release()

    try:
        while True:
            await free.acquire()
            task = asyncio.create_task(answer(await socket.recv_multipart(copy=False)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _reply_or_error(service: Service, client: bytes, message: bytes, n15_clients: deque[bytes]) -> bytes:
    """Return the reply to a message; an error is a reply too."""
    request_id = current_request_id.get()
    with service.monitor.begin_request(UNREAD) as measured:
        try:
            with service.shutdown.running():
                return await _reply(service, client, message, n15_clients, measured)
        except Exception as error:
            measured.refusal = shown = client_error(error)
            logger.info("zmq %s session=%s%s", client_fields(), _session_id(client), reason_of(shown))
            return gr00t.write_error(shown, request_id)


async def _reply(
    service: Service, client: bytes, message: bytes, n15_clients: deque[bytes], measured: RunningRequest
) -> bytes:
    watch, session_id = Stopwatch(), _session_id(client)
    request = await asyncio.to_thread(gr00t.read, message)
    measured.route = request.endpoint
    service.access.admit_secret(request.api_token, _HOW_TO_SEND_A_KEY)
    if request.is_bare and client not in n15_clients:
        n15_clients.append(client)
    if request.endpoint == "ping":
        return gr00t.PONG
    if request.endpoint == "get_modality_config":
        return gr00t.write_modality_config(service.reader_for(session_id).spec, as_text=client in n15_clients)
    if request.endpoint == "reset":
        await begin_episode(service.sessions, gr00t.read_reset(request, service.reader_for(session_id)), session_id)
        return gr00t.RESET_DONE
    service.rates.check_current()
    async with service.precedence.entered():
        with service.monitor.timed("read"):
            step = await asyncio.to_thread(gr00t.read_observation, request, service.reader_for(session_id))
        watch.lap("read")
        measured.continue_trace(step.traceparent)
        result = await run_step(service.sessions, step.on_connection(session_id))
    watch.lap("answer")
    with service.monitor.timed("write"):
        return gr00t.write(result, request, watch)


def _session_id(client: bytes) -> str:
    return f"zmq:{client.hex()}"

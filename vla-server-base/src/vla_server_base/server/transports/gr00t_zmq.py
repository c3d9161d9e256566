"""A ZeroMQ socket for GR00T's clients; each of them is a session."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vla_server_base.config import ConfigError
from vla_server_base.extras import how_to_install
from vla_server_base.protocols import gr00t
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.request_context import begin_request, current_request_id
from vla_server_base.server.error_replies import client_error, reason_of
from vla_server_base.server.service import Service
from vla_server_base.sessions.step import begin_episode, take_turn

try:
    import zmq
    import zmq.asyncio
except ImportError as error:
    raise ConfigError("VLA_ZMQ_PORT: GR00T's clients need pyzmq", hint=how_to_install("zmq")) from error

logger = logging.getLogger(__name__)

_HEARTBEAT_MS = 30_000


@asynccontextmanager
async def serving_gr00t(service: Service, host: str, port: int) -> AsyncIterator[int]:
    """Answer GR00T's clients meanwhile, and give the port; 0 takes a free one.

    Raises:
        ConfigError: the port is taken.
    """
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.IPV6, ":" in host)
        # A larger message ends its client's connection.
        socket.set(zmq.MAXMSGSIZE, service.config.max_body_mb * 2**20)
        # GR00T's clients wait for each answer: what else one sends stays in its own kernel, and what it does not read
        # is dropped.
        socket.set(zmq.RCVHWM, 1)
        socket.set(zmq.SNDHWM, 2)
        # Who says nothing of ZeroMQ's, or no longer answers, is let go.
        socket.set(zmq.HANDSHAKE_IVL, round(service.config.head_timeout_s * 1e3))
        socket.set(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, 2 * _HEARTBEAT_MS)
        try:
            socket.bind(f"tcp://{f'[{host}]' if ':' in host else host}:{port}")
        except zmq.ZMQError as error:
            raise ConfigError(f"VLA_ZMQ_PORT: {host}:{port} cannot be listened on ({error})") from error
        answering = asyncio.create_task(_answer_all(service, socket))
        try:
            yield int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        finally:
            answering.cancel()
            await asyncio.wait([answering])


async def _answer_all(service: Service, socket: "zmq.asyncio.Socket") -> None:
    """Answer whoever asks, many at once: a client that waits keeps none of the others."""
    # Where too many are being answered, messages stay in the sockets' queues.
    free = asyncio.Semaphore(service.config.max_connections)
    tasks: set[asyncio.Task[None]] = set()
    # Who speaks as N1.5 does: a question alone does not show it.
    oldest: deque[bytes] = deque(maxlen=service.config.max_connections)

    async def answer(frames: "list[zmq.Frame]") -> None:
        client, *between, message = (frame.bytes for frame in frames)
        begin_request(client=str(frames[-1].get("Peer-Address")))
        try:
            await socket.send_multipart([client, *between, await _answered(service, client, message, oldest)])
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


async def _answered(service: Service, client: bytes, message: bytes, oldest: deque[bytes]) -> bytes:
    """Return what a message is answered with: whatever goes wrong, an answer."""
    own_session, request_id = f"zmq:{client.hex()}", current_request_id.get()
    try:
        with service.shutdown.running():
            return await _answer(service, client, message, oldest)
    except Exception as error:
        told = client_error(error)
        logger.info("zmq session=%s request_id=%s%s", own_session, request_id, reason_of(told))
        return gr00t.write_error(told, request_id)


async def _answer(service: Service, client: bytes, message: bytes, oldest: deque[bytes]) -> bytes:
    watch, own_session = Stopwatch(), f"zmq:{client.hex()}"
    request = await asyncio.to_thread(gr00t.read, message)
    if request.is_bare and client not in oldest:
        oldest.append(client)
    if request.endpoint == "ping":
        return gr00t.PONG
    if request.endpoint == "get_modality_config":
        return gr00t.write_modality_config(service.engine.spec, as_text=client in oldest)
    if request.endpoint == "reset":
        begin_episode(service.sessions, gr00t.read_reset(request, service.observation_reader), own_session)
        return gr00t.RESET_DONE
    turn = await asyncio.to_thread(gr00t.read_observation, request, service.observation_reader)
    watch.lap("read")
    reply = await take_turn(service.sessions, turn.on_connection(own_session))
    watch.lap("answer")
    return gr00t.write(reply, request, watch)

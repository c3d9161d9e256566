"""openpi's and RoboArena's clients on a WebSocket."""

import asyncio

from vla_server_base.errors import ModelUnavailable
from vla_server_base.monitoring.running_request import RunningRequest
from vla_server_base.protocols import openpi
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.request_context import current_protocol
from vla_server_base.server.transports.websocket_connection import SocketConnection, WireMessage
from vla_server_base.sessions.requests import EpisodeRequest
from vla_server_base.sessions.step import begin_episode, run_step


async def serve_openpi(connection: SocketConnection) -> None:
    """Greet the client and answer its messages until it leaves."""
    current_protocol.set("openpi")
    service = connection.service
    try:
        # Clients wait for the greeting without a limit, so the policy may load while they do.
        await service.policy_loaded()
    except ModelUnavailable as error:
        await connection.refuse(openpi.write_error(*connection.client_error(error)))
        return
    reader = service.reader_for(connection.session_id)
    connection.greeted = reader.engine
    await connection.send(openpi.greeting(reader))

    async def answer(message: WireMessage) -> WireMessage:
        with connection.begin_message("/") as measured:
            try:
                return await _answer(connection, message, measured)
            except Exception as error:
                measured.refusal, request_id = connection.client_error(error)
                return openpi.write_error(measured.refusal, request_id)

    await connection.answer_all(answer, openpi.write_error)


async def _answer(connection: SocketConnection, message: WireMessage, measured: RunningRequest) -> WireMessage:
    service, watch = connection.service, Stopwatch()
    service.rates.check_current()
    with service.monitor.timed("read"):
        request = await asyncio.to_thread(openpi.read, message, connection.reader)
    watch.lap("read")
    if isinstance(request, EpisodeRequest):
        await begin_episode(service.sessions, request, connection.session_id)
        return openpi.RESET_DONE
    measured.continue_trace(request.step.traceparent)
    result = await run_step(service.sessions, request.step.on_connection(connection.session_id))
    watch.lap("answer")
    with service.monitor.timed("write"):
        return openpi.write(result, request, watch)

"""vla-eval's clients on a WebSocket: observations may come faster than the policy answers them."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace

from starlette.websockets import WebSocketDisconnect

from vla_server_base.errors import Superseded, Unavailable, VLAError
from vla_server_base.monitoring.running_request import RunningRequest
from vla_server_base.protocols import vla_eval
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.request_context import begin_request, current_protocol, current_request_id
from vla_server_base.server.transports.websocket_connection import SocketConnection, WireMessage
from vla_server_base.sessions.requests import StepRequest
from vla_server_base.sessions.step import begin_episode, run_step


async def serve_vla_eval(connection: SocketConnection) -> None:
    """Answer a client's messages until it leaves."""
    current_protocol.set("vla-eval")
    newest = _NewestObservation(connection)
    reader = _MessageReader(connection, newest)
    answering = asyncio.create_task(newest.answer_all())
    try:
        await connection.answer_all(reader.take, reader.write_error)
    except Unavailable:
        await newest.wait_until_idle()
        raise
    finally:
        answering.cancel()
        await asyncio.wait([answering])


@dataclass(frozen=True)
class _WaitingObservation:
    """An observation that waits for its control step."""

    request: StepRequest
    message: vla_eval.VlaEvalMessage
    request_id: str
    watch: Stopwatch
    measured: RunningRequest


class _NewestObservation:
    """The newest observation of a connection, answered as soon as the one before is.

    A client in vla-eval's live mode does not wait for replies. An observation that a newer one overtakes while it waits
    gets an error, and counts as a skipped step. The one that the policy works on is answered all the same: otherwise
    none would be, where observations come faster than actions.
    """

    def __init__(self, connection: SocketConnection):
        self._connection = connection
        self._waiting: _WaitingObservation | None = None
        self._has_come = asyncio.Event()
        self._num_skipped = 0
        self._busy = asyncio.Lock()

    async def wait_until_idle(self) -> None:
        """Wait for the reply that is being made."""
        async with self._busy:
            pass

    async def put(self, observation: _WaitingObservation) -> None:
        """Have an observation answered next, in place of the one that waits."""
        overtaken, self._waiting = self._waiting, observation
        self._has_come.set()
        if overtaken is not None:
            self._num_skipped += 1
            error = Superseded("a newer observation of this connection has come", hint="use the newest one's action")
            await self._send_error(overtaken, error)

    async def clear(self) -> None:
        """Refuse the observation that waits: its episode is over."""
        overtaken, self._waiting, self._num_skipped = self._waiting, None, 0
        self._has_come.clear()
        if overtaken is not None:
            error = Superseded("a new episode has begun", hint="send an observation of the new episode")
            await self._send_error(overtaken, error)

    async def answer_all(self) -> None:
        """Answer one observation after the other until the client is gone."""
        with suppress(WebSocketDisconnect):
            while True:
                await self._has_come.wait()
                observation, num_skipped = self._waiting, self._num_skipped
                assert observation is not None, "the event says that there is one"
                self._waiting, self._num_skipped = None, 0
                self._has_come.clear()
                begin_request(observation.request_id)
                observation.measured.resume()
                async with self._busy:
                    await self._answer(observation, num_skipped)

    async def _answer(self, observation: _WaitingObservation, num_skipped: int) -> None:
        connection, service = self._connection, self._connection.service
        request = replace(observation.request, num_skipped=num_skipped).on_connection(connection.session_id)
        try:
            with service.shutdown.running():
                async with service.precedence.entered():
                    result = await run_step(service.sessions, request)
            observation.watch.lap("answer")
            with service.monitor.timed("write"):
                reply = vla_eval.write(result, observation.message, observation.watch)
        except Exception as error:
            await self._send_error(observation, error)
        else:
            observation.measured.end(200)
            await connection.send(reply)

    async def _send_error(self, observation: _WaitingObservation, error: Exception) -> None:
        shown, request_id = self._connection.client_error(error, observation.request_id)
        observation.measured.refuse(shown)
        await self._connection.send(vla_eval.write_error(shown, request_id, observation.message.seq))


class _MessageReader:
    """Reads a client's messages; observations are answered later, all else at once."""

    def __init__(self, connection: SocketConnection, newest: _NewestObservation):
        self._connection, self._newest = connection, newest
        self._seq = 0

    async def take(self, data: WireMessage) -> WireMessage | None:
        """Take a message and return its reply, if there is one yet."""
        measured = self._connection.begin_message("/vla-eval")
        try:
            return await self._take(data, measured)
        except Exception as error:
            shown, request_id = self._connection.client_error(error)
            measured.refuse(shown)
            return vla_eval.write_error(shown, request_id, self._seq)

    def write_error(self, error: VLAError, request_id: str) -> WireMessage:
        """Return the reply for an error that is about the connection."""
        return vla_eval.write_error(error, request_id, self._seq)

    async def _take(self, data: WireMessage, measured: RunningRequest) -> WireMessage | None:
        watch, service = Stopwatch(), self._connection.service
        message = await asyncio.to_thread(vla_eval.read, data)
        self._seq = message.seq
        if message.kind == "hello":
            await service.policy_loaded()
            measured.end(200)
            reader = self._connection.reader
            self._connection.greeted = reader.engine
            return vla_eval.greeting(reader.spec, message.seq)
        if message.kind == "episode_start":
            await self._newest.clear()
            episode = await asyncio.to_thread(vla_eval.read_start, message, self._connection.reader)
            await begin_episode(service.sessions, episode, self._connection.session_id)
        elif message.kind == "observation":
            service.rates.check_current()
            with service.monitor.timed("read"):
                request = await asyncio.to_thread(vla_eval.read_observation, message, self._connection.reader)
            watch.lap("read")
            measured.continue_trace(request.traceparent)
            await self._newest.put(_WaitingObservation(request, message, current_request_id.get(), watch, measured))
            return None
        measured.end(200)
        return None

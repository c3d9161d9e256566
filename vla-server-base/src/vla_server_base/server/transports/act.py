"""The routes of OpenVLA's, AutoEval's and the old Octo server's clients: `/act`, `/reset` and `/query`.

These clients do not name a session, so each address has a default one. The server does not notice when another program
starts at an address, so each request states all its settings.
"""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from vla_server_base.errors import UnsupportedMedia
from vla_server_base.protocols import openvla
from vla_server_base.protocols.observations import ObservationReader
from vla_server_base.protocols.openvla import ActRequest
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.request_context import current_protocol
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.session_reply import ResetReply
from vla_server_base.server.http_body import read_body
from vla_server_base.server.in_flight import unless_disconnected
from vla_server_base.server.service import CurrentService, Service
from vla_server_base.sessions.step import begin_episode, run_step

_JSON = {"application/json": {"schema": {"description": "JSON with arrays, as json-numpy has it"}}}
_ENCODED = {"type": ["object", "string"], "description": "JSON with arrays, as json-numpy has it; or that, as text"}
_MESSAGE = {"requestBody": {"required": True, "content": {"application/json": {"schema": _ENCODED}}}}
_SETTINGS = {**_ENCODED, "type": ["object", "string", "null"]}
_RESET = {"requestBody": {"required": False, "content": {"application/json": {"schema": _SETTINGS}}}}

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.post(
    "/act",
    summary="OpenVLA's: the action for an image and an instruction",
    responses={200: {"content": _JSON}},
    response_class=Response,
    openapi_extra=_MESSAGE,
)
async def act(request: Request, service: CurrentService) -> Response:
    return await _act(request, service, openvla.read_act)


@router.post(
    "/query",
    summary="The old Octo server's: the same under its names",
    responses={200: {"content": _JSON}},
    response_class=Response,
    openapi_extra=_MESSAGE,
)
async def query(request: Request, service: CurrentService) -> Response:
    return await _act(request, service, openvla.read_query)


@router.post("/reset", summary="AutoEval's: a new episode begins", openapi_extra=_RESET)
async def reset(request: Request, service: CurrentService) -> ResetReply:
    current_protocol.set("openvla")
    body = await _body(request, service)
    episode = await asyncio.to_thread(openvla.read_reset, body, service.reader_for(_session_id(request)))
    await begin_episode(service.sessions, episode, _session_id(request), is_connection=False)
    return ResetReply()


async def _act(request: Request, service: Service, read: Callable[[bytes, ObservationReader], ActRequest]) -> Response:
    current_protocol.set("openvla")
    reader = service.reader_for(_session_id(request))
    body = await _body(request, service)

    async def answer() -> Response:
        watch = Stopwatch()
        with service.monitor.timed("read"):
            act_request = await asyncio.to_thread(read, body, reader)
        watch.lap("read")
        result = await run_step(service.sessions, act_request.step.from_address(_session_id(request)))
        watch.lap("answer")
        with service.monitor.timed("write"):
            content = openvla.write(result, act_request)
        watch.lap("write")
        timing_ms = watch.timing_ms(queue=result.queue_ms, infer=result.infer_ms)
        # The body has no field for it (https://www.w3.org/TR/server-timing).
        timing = ", ".join(f"{name};dur={ms}" for name, ms in timing_ms.items())
        headers = {"Server-Timing": timing, **openvla.write_notes(result)}
        return Response(content, media_type="application/json", headers=headers)

    return await unless_disconnected(request, answer())


async def _body(request: Request, service: Service) -> bytes:
    """Read a body; content types that any web page may send without a CORS preflight are refused."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in ("", "application/json"):
        raise UnsupportedMedia(
            f"the body's content type is '{media[:80]}', expected application/json",
            hint="send JSON with the header Content-Type: application/json",
        )
    return bytes(await read_body(request, service.config.max_body_mb * 2**20))


def _session_id(request: Request) -> str:
    # An IPv6 address may end with its interface, behind a %.
    return "act:" + (request.client.host.replace("%", "-") if request.client else "-")

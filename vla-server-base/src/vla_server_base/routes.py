"""The routes: each says what it answers, and asks the service for it."""

import asyncio
import importlib.metadata
import platform
import time
from collections.abc import Awaitable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from vla_server_base.errors import BodyTooLarge, UnsupportedMedia
from vla_server_base.examples import PREDICT_EXAMPLES
from vla_server_base.predict import answer_predict
from vla_server_base.replies import (
    ErrorReply,
    HealthReply,
    InfoReply,
    Limits,
    LiveReply,
    PredictReply,
    ScenesReply,
)
from vla_server_base.scenes.library import bundled_scene, bundled_scenes
from vla_server_base.service import Service
from vla_server_base.wire import predict_request_from_json

_HEALTH_RETRY_AFTER_S = 5
_VERSIONED = ("vla-server-base", "fastapi", "numpy", "mujoco")

T = TypeVar("T")

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


async def _service(request: Request) -> Service:
    return request.app.state.service


CurrentService = Annotated[Service, Depends(_service)]


@router.post(
    "/predict",
    summary="Answer a scene, or pictures, and an instruction with an action",
    responses={200: {"model": PredictReply}},
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/PredictRequest"},
                    "examples": PREDICT_EXAMPLES,
                }
            },
        }
    },
)
async def predict(request: Request, service: CurrentService) -> Response:
    started = time.perf_counter()
    _ = service.engine.spec  # while loading, nobody's megabytes are read
    raw = await _read_json_body(request, service.config.max_body_mb * 2**20)
    body = await asyncio.to_thread(predict_request_from_json, raw)
    work = answer_predict(service, body, started, request.state.request_id)
    return Response(await _unless_disconnected(request, work), media_type="application/json")


@router.get(
    "/health",
    summary="Whether the policy answers",
    responses={200: {"model": HealthReply}, 503: {"model": HealthReply}},
)
async def health(service: CurrentService) -> Response:
    reply = service.health
    is_healthy = reply.status == "healthy"
    return Response(
        reply.model_dump_json(exclude_none=True),
        200 if is_healthy else 503,
        {} if is_healthy else {"Retry-After": str(_HEALTH_RETRY_AFTER_S)},
        "application/json",
    )


@router.get("/live", summary="Whether the process runs")
async def live() -> LiveReply:
    return LiveReply()


@router.get("/info", summary="What is served, on what, and within which limits")
def info(service: CurrentService) -> InfoReply:
    status, config = service.engine.status, service.config
    policy = service.engine.spec if status.state == "loaded" else None
    return InfoReply(
        model=service.model_id,
        model_status=status.state,
        reason=status.reason,
        revision=policy.revision if policy else None,
        weights=policy.weights if policy else None,
        policy=policy,
        renderer=service.renderer,
        renderers_tried=dict(service.pool.tried),
        limits=Limits(
            max_body_mb=config.max_body_mb,
            max_image_pixels=config.max_image_pixels,
            max_samples=config.max_samples,
            max_queue=config.max_queue,
            max_instruction_chars=policy.max_instruction_chars if policy else None,
            scene_timeout_s=config.scene_timeout_s,
            scene_memory_mb=config.scene_memory_mb,
        ),
        versions=_versions(),
    )


@router.get("/scenes", summary="The scenes that ship with the server")
def scenes() -> ScenesReply:
    return ScenesReply(robots={robot: list(names) for robot, names in bundled_scenes().items()})


@router.get(
    "/scenes/{robot}/{scene}",
    summary="One of them, as MJCF",
    response_class=Response,
    responses={200: {"content": {"application/xml": {"schema": {"type": "string"}}}}},
)
def scene_xml(robot: str, scene: str) -> Response:
    return Response(bundled_scene(robot, scene), media_type="application/xml")


async def _read_json_body(request: Request, max_bytes: int) -> bytearray:
    """Read the body and stop where it is over the limit, by its head or by what comes."""
    _check_media(request)
    too_large = BodyTooLarge(f"the body is over this server's limit of {max_bytes} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        if len(body) + len(part) > max_bytes:
            raise too_large
        body += part
    return body


def _check_media(request: Request) -> None:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise UnsupportedMedia(
            f"the body's content type is '{media[:80]}', expected application/json",
            hint="send the header Content-Type: application/json",
        )
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMedia(f"the body's encoding is '{encoding[:80]}', only plain bodies are read")


async def _unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """Await `work`, and cancel it when the client goes away: nobody would read the answer."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _VERSIONED}

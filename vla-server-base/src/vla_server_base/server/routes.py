"""The routes other than /predict and /execute: sessions, assets, scenes, and what the server says of itself."""

import asyncio
import dataclasses
import importlib.metadata
import platform

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from vla_server_base.episodes.recorder import possible_recordings
from vla_server_base.errors import NotFound
from vla_server_base.scenes.library import bundled_scene, bundled_scenes
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.predict import action_formats
from vla_server_base.schemas.session_reply import SessionsReply, SessionStatusReply
from vla_server_base.schemas.status import AssetReply, HealthReply, InfoReply, Limits, LiveReply, ScenesReply
from vla_server_base.server.front_page import front_page
from vla_server_base.server.http_body import read_body
from vla_server_base.server.service import CurrentService

_HEALTH_RETRY_AFTER_S = 5
_VERSIONED = ("vla-server-base", "fastapi", "numpy", "mujoco")

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.get("/", include_in_schema=False)
async def root(request: Request, service: CurrentService) -> HTMLResponse:
    return HTMLResponse(front_page(service.health, str(request.base_url), service.config.console))


@router.get("/sessions", summary="The sessions that are held")
async def sessions(service: CurrentService) -> SessionsReply:
    return SessionsReply(
        sessions=[SessionStatusReply(**dataclasses.asdict(status)) for status in service.sessions.statuses()],
        max_sessions=service.config.max_sessions,
    )


@router.delete("/sessions/{session_id:path}", summary="End a session")
async def end_session(session_id: str, service: CurrentService) -> SessionStatusReply:
    return SessionStatusReply(**dataclasses.asdict(await service.sessions.end_everywhere(session_id)))


@router.put(
    "/assets/{sha256}",
    summary="Hold a file for scenes that name it by its hash",
    responses={200: {"model": AssetReply, "description": "It was held already"}, 201: {"model": AssetReply}},
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
)
async def put_asset(sha256: str, request: Request, response: Response, service: CurrentService) -> AssetReply:
    max_mb = min(service.config.max_body_mb, service.config.asset_store_mb)
    content = bytes(await read_body(request, max_mb * 2**20))
    is_new = await asyncio.to_thread(service.assets.put, sha256, content)
    response.status_code = 201 if is_new else 200
    return AssetReply(sha256=sha256, num_bytes=len(content))


@router.head("/assets/{sha256}", summary="Whether a file is held", response_class=Response)
async def has_asset(sha256: str, service: CurrentService) -> Response:
    if sha256 not in service.assets:
        raise NotFound("this server has no asset of this hash", hint="PUT it")
    return Response()


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


@router.get(
    "/live",
    summary="Whether the process runs, and is of use",
    responses={200: {"model": LiveReply}, 503: {"model": LiveReply}},
)
async def live(service: CurrentService) -> Response:
    status = service.engine.status
    is_broken = status.state == "broken"
    reply = LiveReply(status="broken", reason=status.reason) if is_broken else LiveReply(status="live")
    return Response(reply.model_dump_json(exclude_none=True), 503 if is_broken else 200, {}, "application/json")


@router.get("/info", summary="What is served, on what, and within which limits")
def info(service: CurrentService) -> InfoReply:
    status, config = service.engine.status, service.config
    policy = service.engine.spec if status.state == "loaded" else None
    if policy is not None:
        policy = dataclasses.replace(policy, action_formats=action_formats(policy))
    return InfoReply(
        model=service.model_id,
        model_status=status.state,
        reason=status.reason,
        revision=policy.revision if policy else None,
        weights=policy.weights if policy else None,
        policy=policy,
        renderer=service.renderer,
        renderers_tried=dict(service.pool.tried),
        confinement=service.confinement,
        recordings=list(possible_recordings()),
        limits=Limits(
            max_body_mb=config.max_body_mb,
            asset_store_mb=config.asset_store_mb,
            scene_store_mb=config.scene_store_mb,
            max_image_pixels=config.max_image_pixels,
            max_samples=config.max_samples,
            max_queue=config.max_queue,
            max_sessions=config.max_sessions,
            max_instruction_chars=policy.max_instruction_chars if policy else None,
            scene_timeout_s=config.scene_timeout_s,
            scene_memory_mb=config.scene_memory_mb,
        ),
        code_sha256=service.code.sha256,
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


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _VERSIONED}

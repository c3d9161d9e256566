"""What orchestrators ask of a model server: KServe's health and metadata paths (Open Inference Protocol 2)."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from vla_server_base import __version__
from vla_server_base.errors import NotFound
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.kserve import (
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    model_metadata,
)
from vla_server_base.server.service import CurrentService, Service

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


def model_name(service: Service) -> str:
    """Return the model's name as it stands in an address: the last part of its id."""
    return service.model_id.rstrip("/").rpartition("/")[2]


@router.get(
    "/healthz",
    summary="OK as text, as openpi's servers say it",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def healthz(service: CurrentService) -> Response:
    status = service.health.status
    return PlainTextResponse("OK\n") if status == "healthy" else PlainTextResponse(f"{status}\n", 503)


@router.get("/v2", summary="KServe: what this is")
async def server_metadata() -> ServerMetadata:
    return ServerMetadata(name="vla-servers", version=__version__, extensions=[])


@router.get("/v2/health/live", summary="KServe: whether the process runs")
async def server_live(service: CurrentService, response: Response) -> ServerLive:
    is_live = service.engine.status.state != "broken"
    response.status_code = 200 if is_live else 503
    return ServerLive(live=is_live)


@router.get("/v2/health/ready", summary="KServe: whether the policy answers")
async def server_ready(service: CurrentService, response: Response) -> ServerReady:
    ready = service.health.status == "healthy"
    response.status_code = 200 if ready else 503
    return ServerReady(ready=ready)


@router.get("/v2/models/{name}/ready", summary="KServe: whether the model answers")
async def model_ready(name: str, service: CurrentService, response: Response) -> ModelReady:
    _check_name(name, service)
    ready = service.engine.status.state == "loaded" and not service.shutdown.begun.is_set()
    response.status_code = 200 if ready else 503
    return ModelReady(name=name, ready=ready)


@router.get("/v2/models/{name}", summary="KServe: what the model takes and gives")
async def model(name: str, service: CurrentService) -> ModelMetadata:
    _check_name(name, service)
    return model_metadata(name, service.engine.spec)


def _check_name(name: str, service: Service) -> None:
    if name != model_name(service):
        raise NotFound(f"there is no model '{name[:80]}'", hint=f"available: {model_name(service)}")

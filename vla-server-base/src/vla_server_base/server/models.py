"""/models: the models that are held, and loading, serving and unloading them while the server runs."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response

from vla_server_base.access.keys import current_key
from vla_server_base.errors import Forbidden
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.models import LoadModelRequest, ModelReply, ModelsReply, ServeModelRequest, model_reply
from vla_server_base.server.http_body import read_json
from vla_server_base.server.openapi import LOAD_MODEL_EXAMPLES, SERVE_MODEL_EXAMPLES, json_body
from vla_server_base.server.service import CurrentService, Service


async def may_manage(request: Request) -> None:
    """Refuse who may not change the models; every route that does depends on this.

    Raises:
        Forbidden: the server's models are fixed, or the request's key is not a person's.
    """
    service: Service = request.app.state.service
    if service.config.models == "off":
        raise Forbidden("requests may not change the models of this server", hint="start it with VLA_MODELS=on")
    key = current_key.get()
    if key is not None and key.priority != "human":
        raise Forbidden(
            f"the key '{key.name}' is of the class {key.priority} and may not change the models",
            hint="use a person's key: keys new NAME --class human",
        )


Managing = Depends(may_manage)

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.get("/models", summary="The models that are held")
async def models(service: CurrentService) -> ModelsReply:
    service.models.sweep()
    replies = [model_reply(service.models, held) for held in service.models.held.values()]
    return ModelsReply(models=replies, serving=service.engine.id)


@router.get("/models/{model_id:path}", summary="One of them, and how far it is")
async def model(model_id: str, service: CurrentService) -> ModelReply:
    return model_reply(service.models, service.models.of(model_id))


@router.post(
    "/models",
    summary="Load a model beside those that are held",
    status_code=202,
    dependencies=[Managing],
    openapi_extra=json_body(LoadModelRequest, LOAD_MODEL_EXAMPLES),
)
async def load_model(request: Request, response: Response, service: CurrentService) -> ModelReply:
    body = await read_json(request, service, LoadModelRequest)
    held = service.models.load(body.to_core())
    response.headers["Location"] = f"/models/{quote(held.id)}"
    return model_reply(service.models, held)


@router.post(
    "/models/{model_id:path}/serve",
    summary="Have a held model take new sessions at once",
    dependencies=[Managing],
    openapi_extra=json_body(ServeModelRequest, SERVE_MODEL_EXAMPLES),
)
async def serve_model(model_id: str, request: Request, service: CurrentService) -> ModelReply:
    body = await read_json(request, service, ServeModelRequest)
    held = service.models.serve(model_id, allows_different_contract=body.allow_different_contract)
    return model_reply(service.models, held)


@router.delete("/models/{model_id:path}", summary="Unload a model", dependencies=[Managing])
async def unload_model(
    model_id: str,
    service: CurrentService,
    force: Annotated[bool, Query(description="Also if it is in use, which ends its sessions")] = False,
) -> ModelReply:
    last = model_reply(service.models, service.models.of(model_id))
    service.models.unload(model_id, force=force)
    return last

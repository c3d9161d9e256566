"""POST /scenes/geometry: a scene as a glTF file, from a worker or from those that were made before."""

import asyncio
import hashlib

from fastapi import APIRouter, Request, Response

from vla_server_base.scenes.messages import GltfRequest, Scene
from vla_server_base.schemas.base import ErrorReply
from vla_server_base.schemas.geometry import GeometryRequest
from vla_server_base.schemas.inputs import GeometryInputs
from vla_server_base.server.http_body import read_geometry_request
from vla_server_base.server.in_flight import unless_disconnected
from vla_server_base.server.openapi import GEOMETRY_EXAMPLES, request_body
from vla_server_base.server.service import Service

GLB = "model/gltf-binary"

router = APIRouter(responses={"default": {"model": ErrorReply, "description": "Any error"}})


@router.post(
    "/scenes/geometry",
    summary="Answer a scene with its shapes, materials, cameras and lights, as a glTF 2.0 file",
    responses={200: {"content": {GLB: {"schema": {"type": "string", "format": "binary"}}}, "description": "The file"}},
    response_class=Response,
    openapi_extra=request_body(GeometryRequest, GEOMETRY_EXAMPLES),
)
async def geometry(request: Request) -> Response:
    service: Service = request.app.state.service
    inputs, scene = await read_geometry_request(request, service)
    glb = await unless_disconnected(request, scene_geometry(service, inputs, scene))
    digest = await asyncio.to_thread(hashlib.sha256, glb)
    return Response(glb, 200, {"X-Scene-Id": scene.key, "ETag": f'"{digest.hexdigest()}"'}, GLB)


async def scene_geometry(service: Service, inputs: GeometryInputs, scene: Scene) -> bytes:
    """Return a scene as a glTF file; one in its default state is made once.

    Raises:
        RendererUnavailable, SceneError, UnknownName, Unavailable: see `Service.render`.
        SceneRefused: the file would be too large.
    """
    glb = service.geometries.get(scene.key, inputs.geom_groups) if inputs.is_default_state else None
    if glb is None:
        reply = await service.export(scene, GltfRequest(state=inputs.state, geom_groups=inputs.geom_groups))
        glb = reply.glb
        if inputs.is_default_state:
            service.geometries.put(scene.key, inputs.geom_groups, glb)
    service.scenes.put(scene)
    return glb

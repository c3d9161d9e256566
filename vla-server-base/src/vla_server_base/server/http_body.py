"""Bodies over HTTP: a request's, read up to its limit, validated, and turned into core types; a reply's, as JSON."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn, TypeVar, overload

import pydantic
from fastapi import Request

from vla_server_base.engine.engine import Engine
from vla_server_base.errors import BodyTooLarge, NotFinite, RequestError, UnsupportedMedia
from vla_server_base.request_inputs import decode_base64
from vla_server_base.scenes.bundle import mjcf_text, scene_from_bundle
from vla_server_base.scenes.content_stores import AssetStore, SceneStore
from vla_server_base.scenes.messages import Scene
from vla_server_base.schemas.base import AnyBody, Reply, Upload
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.geometry import GeometryRequest
from vla_server_base.schemas.inputs import ExecuteInputs, GeometryInputs, PredictInputs
from vla_server_base.schemas.json_items import SHORT_BYTES, check_num_items
from vla_server_base.schemas.predict import PredictRequest
from vla_server_base.schemas.problems import request_error
from vla_server_base.schemas.scene import SceneRequest
from vla_server_base.schemas.state import AssetField
from vla_server_base.server.multipart import json_with_fields, upload_from_multipart
from vla_server_base.server.service import Service

_JSON, _MULTIPART = "application/json", "multipart/form-data"
_SHORT_JSON_BYTES = 2**12

SceneBody = TypeVar("SceneBody", bound=SceneRequest)
Inputs = TypeVar("Inputs")


@overload
async def read_request(
    request: Request, service: Service, kind: type[PredictRequest]
) -> tuple[PredictInputs, Scene | None]: ...


@overload
async def read_request(
    request: Request, service: Service, kind: type[ExecuteRequest]
) -> tuple[ExecuteInputs, Scene | None]: ...


async def read_request(
    request: Request, service: Service, kind: type[PredictRequest] | type[ExecuteRequest]
) -> tuple[PredictInputs | ExecuteInputs, Scene | None]:
    """Read a body of a kind, and return it in core types, with its scene; None if it has images instead.

    Raises:
        ModelUnavailable: the policy is not loaded; the body is not read.
        UnknownName: it names a model that is not held.
        Overloaded: the queue for the device has no place for it; its images are not decoded.
        UnsupportedMedia: the body is neither JSON nor multipart.
        BodyTooLarge: see `read_body`.
        RequestError, SceneError: what it asks for cannot be answered.
    """
    engines = service.models.engines
    _ = engines.serving.spec  # the policy is loaded

    def to_core(body: PredictRequest | ExecuteRequest) -> PredictInputs | ExecuteInputs:
        engine = _engine_for(service, body)
        # A flood's images would take the processor from the policy, only for the requests to be refused. A session's
        # next action may be known already.
        if isinstance(body, PredictRequest) and body.has_images and not body.is_of_session:
            engine.check_room()
        inputs = body.to_core(engine.spec, service.config, engine.fit_image)
        if isinstance(inputs, PredictInputs):
            return replace(inputs, engine=engine, names_model=body.model is not None)
        return replace(inputs, engine=engine)

    async with engines.serving.held_back():
        return await _read_scene_body(request, service, kind, to_core)


def _engine_for(service: Service, body: PredictRequest | ExecuteRequest) -> Engine:
    """Return the engine of the model that a request names, else of its session, else the one that serves.

    Raises:
        UnknownName: there is no such model, or it does not answer yet.
        InvalidToken: the session's model is not held.
    """
    engines = service.models.engines
    if body.model is not None:
        return engines.of(body.model)
    if isinstance(body, PredictRequest) and body.is_of_session:
        return service.sessions.engine_of(body.session_id, body.session_token)
    return engines.serving


async def read_geometry_request(request: Request, service: Service) -> tuple[GeometryInputs, Scene]:
    """Read a body that asks for a scene's geometry, and return it in core types, with its scene; needs no policy.

    Raises:
        UnsupportedMedia, BodyTooLarge, RequestError, SceneError: see `read_request`.
    """
    inputs, scene = await _read_scene_body(request, service, GeometryRequest, GeometryRequest.to_core)
    assert scene is not None, "the body requires a scene"
    return inputs, scene


async def _read_scene_body(
    request: Request, service: Service, kind: type[SceneBody], to_core: Callable[[SceneBody], Inputs]
) -> tuple[Inputs, Scene | None]:
    content_type = request.headers.get("content-type", "")
    media = _media_type(request)
    if media not in (_JSON, _MULTIPART):
        raise UnsupportedMedia(
            f"the body's content type is '{media[:80]}', expected {_JSON} or {_MULTIPART}",
            hint=f"send JSON with the header Content-Type: {_JSON}, or files beside it as {_MULTIPART}",
        )
    raw = await read_body(request, service.config.max_body_mb * 2**20)

    def parse() -> tuple[SceneBody, Scene | None]:
        upload = Upload(request=bytes(raw)) if media == _JSON else upload_from_multipart(raw, content_type)
        body = body_from_upload(kind, upload)
        return body, scene_from_body(body, upload, service.assets, service.scenes)

    def read() -> tuple[Inputs, Scene | None]:
        body, scene = parse()
        return to_core(body), scene

    if media == _MULTIPART or len(raw) > _SHORT_JSON_BYTES:
        return await asyncio.to_thread(read)
    # A few kB of JSON are parsed in less time than a thread takes to start; images in it are not decoded so fast.
    body, scene = parse()
    return await asyncio.to_thread(to_core, body) if body.has_images else to_core(body), scene


async def read_json(request: Request, service: Service, kind: type[AnyBody]) -> AnyBody:
    """Read a body of a kind that has no scene and no files.

    Raises:
        UnsupportedMedia: the body is not JSON.
        BodyTooLarge: see `read_body`.
        RequestError: naming the fields, and what is expected of them.
    """
    media = _media_type(request)
    if media != _JSON:
        raise UnsupportedMedia(
            f"the body's content type is '{media[:80]}', expected {_JSON}",
            hint=f"send JSON with the header Content-Type: {_JSON}",
        )
    raw = await read_body(request, service.config.max_body_mb * 2**20)
    return await asyncio.to_thread(body_from_upload, kind, Upload(request=bytes(raw)))


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, max_bytes: int) -> bytearray:
    """Read a plain body, and stop where it is over the limit, by its head or by what comes.

    Raises:
        UnsupportedMedia: it is compressed.
        BodyTooLarge: it is over the limit.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMedia(
            f"the body's encoding is '{encoding[:80]}', expected none",
            hint="send it without Content-Encoding",
        )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    async for part in request.stream():
        if len(body) + len(part) > max_bytes:
            raise _too_large(max_bytes)
        body += part
    return body


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is over this server's limit of {max_bytes} bytes",
        hint="send smaller images, or files once by PUT /assets; VLA_MAX_BODY_MB raises the limit",
    )


def body_from_upload(kind: type[AnyBody], upload: Upload) -> AnyBody:
    """Parse a request's JSON, with the files beside it; not on the event loop where it has megabytes.

    Raises:
        RequestError: naming the fields, and what is expected of them.
    """
    if len(upload.request) > SHORT_BYTES:
        check_num_items(upload.request)
    text = json_with_fields(kind, upload) if upload.fields else upload.request
    try:
        return kind.model_validate_json(text, context=upload)
    except pydantic.ValidationError as error:
        raise request_error(error, kind) from error


def scene_from_body(body: SceneRequest, upload: Upload, assets: AssetStore, scenes: SceneStore) -> Scene | None:
    """Return the scene that a request brings or names, None where it has none; not for the event loop.

    Raises:
        UnknownSceneId, MissingAsset: it names what this server does not have.
        SceneError: see `scene_from_bundle`.
        RequestError: an asset is not base64, or comes twice.
    """
    if body.scene_id is not None:
        return scenes.get(body.scene_id)
    if upload.scene is not None:
        scene = scene_from_bundle(upload.scene, body.scene_file)
    elif upload.xml is not None:
        scene = Scene(xml=mjcf_text(upload.xml))
    elif body.xml_string is not None:
        scene = Scene(xml=body.xml_string)
    else:
        return None
    merged = dict(scene.assets)
    named = {name: _asset(name, given, assets) for name, given in body.assets.items()}
    for more in (upload.assets, named):
        if twice := sorted(merged.keys() & more.keys()):
            raise RequestError(f"the asset '{twice[0][:80]}' is given twice", hint="send each file once")
        merged |= more
    return Scene(xml=scene.xml, assets=merged)


def _asset(name: str, given: str | AssetField, assets: AssetStore) -> bytes:
    if isinstance(given, AssetField):
        return assets.get(given.sha256, name)
    try:
        return decode_base64(given)
    except ValueError as error:
        raise RequestError(f"asset '{name[:80]}' is not base64", hint="send the bytes of the file as base64") from error


def reply_json(reply: Reply) -> bytes:
    """Return the JSON of what is set in a reply.

    Raises:
        NotFinite: a number in it is not finite, which JSON cannot say.
    """
    text = reply.model_dump_json(exclude_unset=True).encode()
    if b"NaN" in text or b"Infinity" in text:
        # Names and texts may hold these words too.
        json.loads(text, parse_constant=_refuse)
    return text


def _refuse(constant: str) -> NoReturn:
    raise NotFinite(f"the answer holds {constant} where a number belongs", hint="nothing of it is sent")

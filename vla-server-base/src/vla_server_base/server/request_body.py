"""Reads the body of a request: up to its limit, as JSON or multipart, and into core types with the scene it names."""

import asyncio
from typing import overload

from fastapi import Request

from vla_server_base.errors import BodyTooLarge, UnsupportedMedia
from vla_server_base.scenes.messages import Scene
from vla_server_base.schemas.base import Upload, body_from_upload
from vla_server_base.schemas.execute import ExecuteRequest
from vla_server_base.schemas.inputs import ExecuteInputs, PredictInputs
from vla_server_base.schemas.predict import PredictRequest
from vla_server_base.schemas.scene import scene_from_body
from vla_server_base.server.multipart import upload_from_multipart
from vla_server_base.server.service import Service

_JSON, _MULTIPART = "application/json", "multipart/form-data"
_SHORT_JSON_BYTES = 2**12


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
        UnsupportedMedia: the body is neither JSON nor multipart.
        BodyTooLarge: see `read_body`.
        RequestError, SceneError: what it asks for cannot be answered.
    """
    spec = service.engine.spec
    content_type = request.headers.get("content-type", "")
    media = content_type.partition(";")[0].strip().lower()
    if media not in (_JSON, _MULTIPART):
        raise UnsupportedMedia(
            f"the body's content type is '{media[:80]}', expected {_JSON} or {_MULTIPART}",
            hint=f"send JSON with the header Content-Type: {_JSON}, or files beside it as {_MULTIPART}",
        )
    raw = await read_body(request, service.config.max_body_mb * 2**20)

    def parse() -> tuple[PredictRequest | ExecuteRequest, Scene | None]:
        upload = Upload(request=bytes(raw)) if media == _JSON else upload_from_multipart(raw, content_type)
        body = body_from_upload(kind, upload)
        return body, scene_from_body(body, upload, service.assets, service.scenes)

    def to_core(body: PredictRequest | ExecuteRequest) -> PredictInputs | ExecuteInputs:
        return body.to_core(spec, service.config, service.engine.fit_image)

    def read() -> tuple[PredictInputs | ExecuteInputs, Scene | None]:
        body, scene = parse()
        return to_core(body), scene

    if media == _MULTIPART or len(raw) > _SHORT_JSON_BYTES:
        return await asyncio.to_thread(read)
    # A few kB of JSON are parsed in less time than a thread takes to start; images in it are not decoded so fast.
    body, scene = parse()
    return await asyncio.to_thread(to_core, body) if body.has_images else to_core(body), scene


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

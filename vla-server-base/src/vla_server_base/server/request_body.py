"""Reads what a client sends: a body up to its limit, and a request with the scene that it brings or names."""

import asyncio
from typing import TypeVar

from fastapi import Request

from vla_server_base.errors import BodyTooLarge, UnsupportedMedia
from vla_server_base.scenes.messages import Scene
from vla_server_base.schemas.base import body_from_upload
from vla_server_base.schemas.scene import SceneFields, scene_from_body
from vla_server_base.server.multipart import Upload, upload_from_multipart
from vla_server_base.server.service import Service

_JSON, _MULTIPART = "application/json", "multipart/form-data"
_SHORT_JSON_BYTES = 2**12

SceneBody = TypeVar("SceneBody", bound=SceneFields)


async def read_request(request: Request, service: Service, kind: type[SceneBody]) -> tuple[SceneBody, Scene | None]:
    """Read a body, JSON or multipart, and the scene of it; None where it has none, but a picture.

    Raises:
        UnsupportedMedia: it is neither.
        BodyTooLarge: see `read_body`.
        RequestError, SceneError: what it says cannot be answered.
    """
    content_type = request.headers.get("content-type", "")
    media = content_type.partition(";")[0].strip().lower()
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

    # A thread's way there and back takes longer than a few kB of JSON, which hold nothing that is decoded yet.
    return parse() if media == _JSON and len(raw) <= _SHORT_JSON_BYTES else await asyncio.to_thread(parse)


async def read_body(request: Request, max_bytes: int) -> bytearray:
    """Read a plain body, and stop where it is over the limit, by its head or by what comes.

    Raises:
        UnsupportedMedia: it is compressed.
        BodyTooLarge: it is over the limit.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMedia(f"the body's encoding is '{encoding[:80]}', only plain bodies are read")
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

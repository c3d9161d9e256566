"""Reads a multipart/form-data body: a request, as JSON or field by field, with images, a scene and files."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic.fields import FieldInfo
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from vla_server_base.errors import RequestError
from vla_server_base.scenes import limits
from vla_server_base.schemas.base import Body, Upload
from vla_server_base.schemas.json_items import check_num_items

MAX_PARTS = limits.MAX_ASSETS + 64
IMAGES = ("image", "image_wrist", "goal_image", "goal_image_wrist")
"""Fields that may be sent as the files that they are."""
IMAGE_MAPS = ("images", "goal_images")
"""Fields of images by camera, which are sent as `images.left` and so on."""
_CHUNK_BYTES = 2**18
_LIBRARY = "let an HTTP library build the body, such as curl -F"
_PARTS = (
    f"files: {', '.join(IMAGES)}, images.CAMERA, goal_images.CAMERA (images), scene (.mjz or .zip),"
    " assets (by their file names); other parts: xml (MJCF), request (JSON), or a field of the request"
)


def upload_from_multipart(raw: bytes | bytearray, content_type: str) -> Upload:
    """Take a body apart; not for the event loop, since it may hold megabytes.

    Raises:
        RequestError: it is malformed or cut off, or a part is missing, unknown, twice or one too many.
    """
    single: dict[str, bytes] = {}
    assets: dict[str, bytes] = {}
    fields: dict[str, str] = {}
    for part in _parts(raw, content_type):
        name, file_name = _names(part)
        if name == "assets" and not file_name:
            raise RequestError(
                "a part 'assets' has no file name", hint="give the file the name that the scene uses for it"
            )
        key = file_name if name == "assets" else name
        if key in (assets if name == "assets" else single.keys() | fields.keys()):
            raise RequestError(f"the part '{key[:80]}' is given twice", hint="send each part once")
        if name == "assets":
            assets[key] = bytes(part.content)
        elif name in ("request", "xml", "scene"):
            single[name] = bytes(part.content)
        else:
            fields[name] = _field(part, name, file_name)
    if not single and not fields:
        raise RequestError("the part 'request' is missing", hint=_PARTS)
    return Upload(**{"request": b"{}", **single}, assets=assets, fields=fields)


def _field(part: "_Part", name: str, file_name: str) -> str:
    """Return a field's text; an image that is sent as a file, in base64, as JSON has it."""
    is_image = dict(part.headers).get(b"content-type", b"").startswith(b"image/")
    may_be_image = name in IMAGES or name.startswith(tuple(f"{each}." for each in IMAGE_MAPS))
    if may_be_image and (file_name or is_image):
        return base64.b64encode(part.content).decode()
    if not name or file_name:
        raise RequestError(f"unknown part '{name[:80]}'", hint=_PARTS)
    try:
        return part.content.decode()
    except UnicodeDecodeError as error:
        as_file = f"send the file with its name: curl -F {name}=@photo.jpg"
        hint = as_file if may_be_image else "send a field as text in UTF-8"
        raise RequestError(f"the part '{name[:80]}' is not UTF-8 text", hint=hint) from error


@dataclass(kw_only=True)
class _Part:
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)


def _parts(raw: bytes | bytearray, content_type: str) -> list[_Part]:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise RequestError(
            "the content type multipart/form-data names no boundary",
            hint="let the HTTP library write the Content-Type header: it knows the boundary",
        )
    collector = _PartCollector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        for start in range(0, len(raw), _CHUNK_BYTES):
            parser.write(bytes(raw[start : start + _CHUNK_BYTES]))
    except FormParserError as error:
        raise RequestError(f"the multipart body is malformed: {error}", hint=_LIBRARY) from error
    if not collector.is_complete:
        raise RequestError("the multipart body is cut off: its closing boundary is missing", hint=_LIBRARY)
    return collector.parts


class _PartCollector:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.is_complete = False
        self._name, self._value = bytearray(), bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self.parts[-1].content.extend(data[start:end]),
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise RequestError(f"the body has more than {MAX_PARTS} parts", hint="send many files as one .zip: scene")
        self.parts.append(_Part())

    def _end_header(self) -> None:
        self.parts[-1].headers.append((bytes(self._name).lower(), bytes(self._value)))
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        self.is_complete = True


def _names(part: _Part) -> tuple[str, str]:
    """Return a part's name and its file name, empty if it has none."""
    disposition = dict(part.headers).get(b"content-disposition", b"")
    _, options = parse_options_header(disposition)
    try:
        return options.get(b"name", b"").decode(), options.get(b"filename", b"").decode()
    except UnicodeDecodeError as error:
        raise RequestError("the name of a part is not UTF-8 text", hint=_LIBRARY) from error


def json_with_fields(kind: type[Body], upload: Upload) -> bytes:
    """Return a request's JSON with the fields that came as separate parts."""
    try:
        request = json.loads(upload.request)
    except (ValueError, RecursionError):
        return upload.request  # the parser says what is wrong
    if not isinstance(request, dict):
        return upload.request
    given: dict[str, Any] = {}
    for part, text in upload.fields.items():
        name, is_of_map, key = part.partition(".")
        if name in request or (is_of_map and name in upload.fields):
            raise RequestError(f"'{name[:80]}' is given twice: in two parts", hint="send it once")
        if is_of_map:
            given.setdefault(name, {})[key] = text
        else:
            given[name] = _value_of(kind.model_fields.get(name), text)
    return json.dumps(request | given).encode()


def _value_of(field: FieldInfo | None, text: str) -> Any:
    """Return the value of a part: JSON, or a text where the field takes one."""
    check_num_items(text.encode())
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    annotation = field and field.annotation
    takes_text = str in (annotation, *get_args(annotation))
    return text if takes_text and not isinstance(value, dict) else value

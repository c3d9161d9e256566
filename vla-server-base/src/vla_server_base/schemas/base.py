"""What all wire types share: bodies of requests, strict and frozen, bodies of replies, and the form of every error."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar, get_args

import pydantic
from pydantic.fields import FieldInfo

from vla_server_base.errors import NotFinite, RequestError
from vla_server_base.schemas.json_items import SHORT_BYTES, check_num_items
from vla_server_base.schemas.problems import request_error


class Body(pydantic.BaseModel):
    """A request's body: unknown fields and near misses of a type are refused, by name."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


AnyBody = TypeVar("AnyBody", bound=Body)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A request's JSON and the files sent with it; a plain JSON body is an upload without files."""

    request: bytes
    xml: bytes | None = None
    scene: bytes | None = None
    assets: Mapping[str, bytes] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    """The request's fields that came as separate parts, as text, `images.left` for one of a map; images in base64."""


def body_from_upload(kind: type[AnyBody], upload: Upload) -> AnyBody:
    """Parse a request's JSON, with its files; not on the event loop if it has megabytes.

    Raises:
        RequestError: naming the fields, and what is expected of them.
    """
    try:
        return kind.model_validate_json(_json_of(kind, upload), context=upload)
    except pydantic.ValidationError as error:
        raise request_error(error, kind) from error


def _json_of(kind: type[Body], upload: Upload) -> bytes:
    """Return a request's JSON with the fields that came as separate parts."""
    if len(upload.request) > SHORT_BYTES:
        check_num_items(upload.request)
    if not upload.fields:
        return upload.request
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


def body_from_values(kind: type[AnyBody], values: Mapping[str, Any]) -> AnyBody:
    """Read a body's fields from a message's values by name; None counts as left out, and other names are skipped.

    Raises:
        RequestError: naming the fields, and what is expected of them.
    """
    given = {name: values[name] for name in kind.model_fields if values.get(name) is not None}
    try:
        return kind.model_validate(given)
    except pydantic.ValidationError as error:
        raise request_error(error) from error


class Reply(pydantic.BaseModel):
    """A reply's body; it never has a number that JSON has not."""

    model_config = pydantic.ConfigDict(use_attribute_docstrings=True, ser_json_inf_nan="constants")

    def to_json(self) -> bytes:
        """Return the JSON of what is set.

        Raises:
            NotFinite: a number in it is not finite.
        """
        written = self.model_dump_json(exclude_unset=True).encode()
        if b"NaN" in written or b"Infinity" in written:
            # Names and texts may hold these words too.
            json.loads(written, parse_constant=_refuse)
        return written


def _refuse(constant: str) -> NoReturn:
    raise NotFinite(f"the reply contains {constant}", hint="the reply is dropped; send another request")


class ErrorBody(Reply):
    """What went wrong: a code for programs, a sentence for people, and what to do instead."""

    code: str
    message: str
    hint: str


class ErrorReply(Reply):
    """What every error is answered with."""

    error: ErrorBody
    request_id: str

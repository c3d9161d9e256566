"""What all wire types share: bodies of requests, strict and frozen, bodies of replies, and the form of every error."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pydantic

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
    """A reply's body."""

    model_config = pydantic.ConfigDict(use_attribute_docstrings=True, ser_json_inf_nan="constants")


class ErrorBody(Reply):
    """What went wrong: a code for programs, a sentence for people, and what to do instead."""

    code: str
    message: str
    hint: str


class ErrorReply(Reply):
    """What every error is answered with."""

    error: ErrorBody
    request_id: str

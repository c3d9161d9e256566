"""What every request's body is: strict, frozen, and refused by name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

import pydantic
from pydantic.fields import FieldInfo

from vla_server_base.errors import RequestError
from vla_server_base.schemas.json_items import check_num_items
from vla_server_base.server.multipart import Upload

_MAX_PROBLEMS_NAMED = 5
_MAX_PROBLEMS_READ = 1000


class Body(pydantic.BaseModel):
    """A request's body: unknown fields and near misses of a type are refused, by name."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


AnyBody = TypeVar("AnyBody", bound=Body)


def body_from_upload(kind: type[AnyBody], upload: Upload) -> AnyBody:
    """Parse a request's JSON, knowing what came beside it; not for the event loop, since it may hold megabytes.

    Raises:
        RequestError: naming the fields, and what is expected of them.
    """
    try:
        return kind.model_validate_json(_json_of(kind, upload), context=upload)
    except pydantic.ValidationError as error:
        raise _request_error(error, kind) from error


def _json_of(kind: type[Body], upload: Upload) -> bytes:
    """Return a request's JSON, with the fields in it that came as parts of their own."""
    check_num_items(upload.request)
    if not upload.fields:
        return upload.request
    try:
        request = json.loads(upload.request)
    except (ValueError, RecursionError):
        return upload.request  # who reads it says what is wrong
    if not isinstance(request, dict):
        return upload.request
    given: dict[str, Any] = {}
    for part, text in upload.fields.items():
        name, is_of_map, key = part.partition(".")
        if name in request or (is_of_map and name in upload.fields):
            raise RequestError(f"'{name[:80]}' is given twice: as a part, and in another")
        if is_of_map:
            given.setdefault(name, {})[key] = text
        else:
            given[name] = _value_of(kind.model_fields.get(name), text)
    return json.dumps(request | given).encode()


def _value_of(field: FieldInfo | None, text: str) -> Any:
    """Return what the text of a part says: JSON, or a text where the field takes one."""
    check_num_items(text.encode())
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    annotation = field and field.annotation
    takes_text = str in (annotation, *get_args(annotation))
    return text if takes_text and not isinstance(value, dict) else value


def body_from_values(kind: type[AnyBody], values: Mapping[str, Any]) -> AnyBody:
    """Read a body's fields from a message's named values; those that are None count as left out, others as not there.

    Raises:
        RequestError: naming the fields, and what is expected of them.
    """
    given = {name: values[name] for name in kind.model_fields if values.get(name) is not None}
    try:
        return kind.model_validate(given)
    except pydantic.ValidationError as error:
        raise _request_error(error) from error


def _request_error(error: pydantic.ValidationError, kind: type[Body] | None = None) -> RequestError:
    # To say what a hundred thousand are takes a second, in which nothing else is done.
    if error.error_count() > _MAX_PROBLEMS_READ:
        return RequestError(
            f"{error.error_count()} fields and items are not as expected", hint="GET /docs describes each request"
        )
    return request_error_from_validation(error.errors(include_input=False, include_url=False), kind)


def request_error_from_validation(problems: Sequence[Any], kind: type[Body] | None = None) -> RequestError:
    """Say in one sentence what pydantic found, without repeating what was sent; `kind` is the body that it read."""
    named = [_sentence(problem) for problem in problems[:_MAX_PROBLEMS_NAMED]]
    if len(problems) > len(named):
        named.append(f"and {len(problems) - len(named)} more")
    unknown = [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]
    known = _fields_beside(kind, unknown[0]) if kind and unknown else []
    return RequestError("; ".join(named), hint=f"fields known here: {', '.join(known)}" if known else None)


def _fields_beside(kind: type[Body], where: Sequence[str | int]) -> list[str]:
    """List the fields of the body that holds the field at `where`; none where that may be of several kinds."""
    for name in where[:-1]:
        field = kind.model_fields.get(str(name))
        inner = field and field.annotation
        if not (isinstance(inner, type) and issubclass(inner, Body)):
            return []
        kind = inner
    return list(kind.model_fields)


def _sentence(problem: Any) -> str:
    where = ".".join(str(part)[:80] for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown field '{where}'"
    what = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what

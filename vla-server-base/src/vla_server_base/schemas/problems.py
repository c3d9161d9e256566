"""What pydantic finds wrong with a body, as one sentence."""

from collections.abc import Sequence
from typing import Any

import pydantic

from vla_server_base.errors import RequestError

_MAX_PROBLEMS_NAMED = 5
_MAX_PROBLEMS_READ = 1000
Model = type[pydantic.BaseModel] | None
_DOCS = "GET /docs describes each request"


def request_error(error: pydantic.ValidationError, kind: Model = None) -> RequestError:
    """Return the error that a client gets; `kind` is the body that was read."""
    # To describe a hundred thousand problems takes a second, and stops everything else.
    if error.error_count() > _MAX_PROBLEMS_READ:
        return RequestError(f"{error.error_count()} fields and items are not as expected", hint=_DOCS)
    return request_error_from_validation(error.errors(include_input=False, include_url=False), kind)


def request_error_from_validation(problems: Sequence[Any], kind: Model = None) -> RequestError:
    """Describe the problems in one sentence, without repeating what was sent; `kind` is the body that was read."""
    named = [_sentence(problem) for problem in problems[:_MAX_PROBLEMS_NAMED]]
    if len(problems) > len(named):
        named.append(f"and {len(problems) - len(named)} more")
    unknown = [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]
    known = _fields_beside(kind, unknown[0]) if kind and unknown else []
    return RequestError("; ".join(named), hint=f"fields: {', '.join(known)}" if known else _DOCS)


def _fields_beside(kind: type[pydantic.BaseModel], where: Sequence[str | int]) -> list[str]:
    """List the fields of the body that has the field at `where`; empty if that body is of several kinds."""
    for name in where[:-1]:
        field = kind.model_fields.get(str(name))
        inner = field and field.annotation
        if not (isinstance(inner, type) and issubclass(inner, pydantic.BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)


def _sentence(problem: Any) -> str:
    where = ".".join(str(part)[:80] for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown field '{where}'"
    what = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what

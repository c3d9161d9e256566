"""The fields of a session in a client's message, in any protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

from vla_server_base.errors import RequestError
from vla_server_base.protocols.named_values import NamedValue
from vla_server_base.protocols.unsupported import refuse_unsupported
from vla_server_base.schemas.base import body_from_values
from vla_server_base.schemas.ranges import Seed
from vla_server_base.schemas.session import StepFields


class MessageFields(StepFields):
    """What a message has besides the observation and the task."""

    seed: Seed | None = None
    """The new session's, or with `reset` the new episode's."""
    dataset: str | None = None
    """Whose statistics un-normalize the actions."""
    unnorm_key: str | None = None
    """The same, under OpenVLA's name."""
    traceparent: Any = None
    """The trace that the message belongs to, as W3C writes it; other values count as none."""


def message_fields(message: Mapping[str, Any], values: Sequence[NamedValue]) -> MessageFields:
    """Return the session fields of a message that has these values.

    Raises:
        RequestError: naming the field that is invalid or not supported.
    """
    refuse_unsupported((named.bare, named.value) for named in values)
    fields = body_from_values(MessageFields, message)
    if fields.dataset is not None and fields.unnorm_key not in (None, fields.dataset):
        raise RequestError("dataset and unnorm_key name two datasets", hint="send one of them")
    return fields

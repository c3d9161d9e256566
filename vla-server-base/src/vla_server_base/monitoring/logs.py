"""The log: one line for each event, as text or as JSON, whatever a client sent."""

import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

from vla_server_base.request_context import RequestIdFilter, request_fields

LogFormat = Literal["text", "json"]

LINE = "%(message)s request_id=%(request_id)s"
"""How a line of the text log ends, whichever module writes it; RequestIdFilter adds the id."""

# The id of a request ends its line, and its client has the name of its key.
_ELSEWHERE = ("request_id", "key")
_USUAL = "protocol=http"


def log_handler(log_format: LogFormat) -> logging.Handler:
    """Return a handler that writes to stderr in a format, with what is known of each record's request."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    return handler


class TextLines(logging.Formatter):
    """`time level logger message key=value ... request_id=...`; the lines of a traceback are indented."""

    def __init__(self) -> None:
        super().__init__(f"%(asctime)s %(levelname)s %(name)s {LINE}")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line, with the fields of the request that the message does not have itself."""
        fields = [f"{name}={value}" for name, value in request_fields().items() if name not in _ELSEWHERE]
        missing = [field for field in fields if field != _USUAL and f"{field.partition('=')[0]}=" not in record.message]
        record.message = escaped(" ".join([record.message, *missing]))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return a traceback that no client can make look like lines of the log."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """Return a stack in the same form."""
        return _indented(super().formatStack(stack_info))


class JsonLines(JsonFormatter):
    """One JSON object a line; what is not known is left out. It has ASCII alone, so that no character ends a line."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: Mapping[str, Any]) -> None:
        """Fill an object: when, how bad, who says what, of which request, and the traceback."""
        log_data["timestamp"] = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        log_data["level"], log_data["logger"] = record.levelname.lower(), record.name
        log_data["message"] = record.message
        log_data.update(request_fields())
        log_data.update({name: value for name, value in message_dict.items() if name in ("exc_info", "stack_info")})


def escaped(text: str) -> str:
    """Return text on one line, control characters as backslashes and letters."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _indented(lines: str) -> str:
    return "\n".join(f"    {escaped(line)}" for line in lines.split("\n"))

"""How much a JSON text holds, known before any of it is made: each item becomes an object of dozens of bytes."""

import re

from vla_server_base.errors import RequestError

MAX_ITEMS = 100_000
"""Items in one text: its length alone bounds nothing."""

SHORT_BYTES = 2 * MAX_ITEMS
"""A text of this length has at most `MAX_ITEMS`: an item takes at least a character and a comma."""

_SLICE_BYTES = 2**18
"""At a time, so that other threads come to their turn."""
_BACKSLASHES = re.compile(rb"\\*")


def check_num_items(text: bytes) -> None:
    """Refuse a text with too many items, without reading it; not for the event loop, since it may hold megabytes.

    Raises:
        RequestError: it has more than `MAX_ITEMS`.
    """
    if len(text) > 2 * MAX_ITEMS and _has_too_many(text):
        raise RequestError(
            f"the JSON holds more than {MAX_ITEMS} items",
            hint="send images and numbers as arrays where the protocol has them, and files as multipart/form-data",
        )


def _has_too_many(text: bytes) -> bool:
    num_items, start, is_in_quotes = 0, 0, 0
    while start < len(text) and num_items <= MAX_ITEMS:
        end = _end_of_slice(text, start)
        parts = text[start:end].replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        # A string is one item, with any content.
        num_items += sum(part.count(each) for part in parts[is_in_quotes::2] for each in (b",", b"[", b"{"))
        is_in_quotes = (is_in_quotes + len(parts) - 1) % 2
        start = end
    return num_items > MAX_ITEMS


def _end_of_slice(text: bytes, start: int) -> int:
    """Return where a slice ends that cuts no escape in two."""
    end = start + _SLICE_BYTES
    if text[end - 1 : end] != b"\\":
        return end
    after = _BACKSLASHES.match(text, end)
    assert after is not None, "none is a match too"
    return after.end() + 1

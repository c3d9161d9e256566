"""The named values of a client's message, at any depth, and how to choose among several of one kind."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_server_base.errors import ProtocolError
from vla_server_base.protocols.known_keys import IN_ORDER, bare_key

MAX_VALUES, MAX_DEPTH, MAX_KEY_CHARS = 1000, 4, 200


@dataclass(frozen=True, kw_only=True)
class NamedValue:
    """A value with its key as the client sent it; nested maps' keys are joined by dots."""

    shown: str
    value: Any

    @property
    def bare(self) -> str:
        """The key without the places before it, as `known_keys` has it."""
        return bare_key(self.shown)

    def is_at(self, key: str) -> bool:
        """Return whether it is exactly where a key says."""
        return self.shown.replace("/", ".") == key.replace("/", ".")


def named_values(message: Mapping[str, Any]) -> list[NamedValue]:
    """Return all values of a message and of the maps in it.

    Raises:
        ProtocolError: there are too many.
    """
    values: list[NamedValue] = []
    for named in _walked(message, "", 1):
        if len(values) == MAX_VALUES:
            raise ProtocolError(f"the message has more than {MAX_VALUES} named values", hint="send numbers as arrays")
        values.append(named)
    return values


def select(values: Sequence[NamedValue], what: str, setting: str) -> NamedValue | None:
    """Return which of several values to use; None if there are none.

    Raises:
        ProtocolError: several differ, and none takes precedence.
    """
    keys = {named.bare for named in values}
    ordered = [[key for key in order if key in keys] for order in IN_ORDER]
    later = {key for order in ordered for key in order[1:]}
    left = [named for named in values if named.bare not in later]
    for other in left[1:]:
        if not _same(left[0].value, other.value):
            raise ProtocolError(
                f"{left[0].shown} and {other.shown} are both {what}, and differ",
                hint=f"send one of them{_or_set(setting, left[0].shown)}",
            )
    return left[0] if left else None


def _or_set(setting: str, key: str) -> str:
    """Return the setting that chooses a key, where it can be written: spaces separate its entries."""
    if len(f"{setting}={key}".split()) > 1 or "=" in setting:
        return ""
    return f', or set which one to use: VLA_OBSERVATION_KEYS="{setting}={key}"'


def is_one_of(value: Any, words: Collection[str]) -> bool:
    """Return whether a client's value is one of some words; an array would be compared number by number."""
    return isinstance(value, str) and value in words


def _walked(content: Mapping[str, Any], prefix: str, depth: int) -> Iterator[NamedValue]:
    for key, value in content.items():
        # No known key is this long.
        shown = f"{prefix}{key}"[:MAX_KEY_CHARS]
        if isinstance(value, dict) and value and depth < MAX_DEPTH:
            yield from _walked(value, f"{shown}.", depth + 1)
        else:
            yield NamedValue(shown=shown, value=value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return one is other or (type(one) is type(other) and isinstance(one, str | bytes) and one == other)

"""Checks the elements of a scene against the known ones, and their attributes against their limits."""

import difflib
from collections.abc import Collection, Mapping

from vla_server_base.errors import SceneError, SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.worker.schema import ATTRIBUTES

REFUSED_ELEMENTS = {
    "extension": "plugins run native code; leave them out",
    "plugin": "plugins run native code; leave them out",
    "composite": "MuJoCo 4 no longer has it; <replicate> makes copies, <flexcomp> ropes and cloth",
}
BYTES_PER_SUFFIX = {suffix: 1024**power for power, suffix in enumerate("KMGTPE", start=1)}


def check_element(tag: str, attributes: Mapping[str, str], where: str) -> None:
    """Check that an element and its attributes are known, and its numbers in range.

    Raises:
        SceneError: the element or an attribute is unknown, or a value is not a number.
        SceneRefused: a number is out of range.
    """
    if tag not in ATTRIBUTES:
        raise _unknown(f"{where}: <{tag[:40]}> is not a known element of MJCF", tag, ATTRIBUTES)
    for name in attributes:
        if name not in ATTRIBUTES[tag]:
            raise _unknown(f"{where}: <{tag}> takes no attribute '{name[:40]}'", name, ATTRIBUTES[tag])
    for name, value in attributes.items():
        _check_range(tag, name, value, where)


def refuse_element(tag: str, where: str) -> None:
    """Refuse an element that no scene may have.

    Raises:
        SceneRefused: it is one.
    """
    if tag in REFUSED_ELEMENTS:
        raise SceneRefused(f"{where}: <{tag}> is not supported", hint=REFUSED_ELEMENTS[tag])


def numbers(tag: str, attribute: str, value: str, where: str) -> list[float]:
    """Return the numbers of an attribute.

    Raises:
        SceneError: it holds something else.
    """
    try:
        values = [_number(word) for word in value.split()]
    except ValueError:
        values = [float("nan")]
    if any(number != number for number in values):
        raise SceneError(
            f'{where}: {attribute}="{value[:40]}" of <{tag}> is not a number', hint="write numbers, with spaces between"
        )
    return values


def _check_range(tag: str, attribute: str, value: str, where: str) -> None:
    allowed = limits.ATTRIBUTE_RANGES.get(f"{tag}/{attribute}") or limits.ATTRIBUTE_RANGES.get(attribute)
    if allowed is None:
        return
    what = f'{where}: {attribute}="{value[:40]}" of <{tag}>'
    for number in numbers(tag, attribute, value, where):
        if number > allowed.largest:
            raise SceneRefused(f"{what} is more than {allowed.largest}", hint=allowed.reason)
        if number < allowed.least:
            raise SceneRefused(f"{what} is less than {allowed.least}", hint=allowed.reason)


def _unknown(message: str, name: str, known: Collection[str]) -> SceneError:
    matches = difflib.get_close_matches(name[: limits.MAX_NAME_CHARS], known, n=1)
    return SceneError(message, hint=f"did you mean '{matches[0]}'?" if matches else "leave it out")


def _number(word: str) -> float:
    """Read a number, or a number of bytes as in `<size memory="100M"/>`."""
    factor = BYTES_PER_SUFFIX.get(word[-1:].upper())
    return float(word[:-1]) * factor if factor else float(word)

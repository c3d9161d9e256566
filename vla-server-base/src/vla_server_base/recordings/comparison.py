"""What differs between a step as it was recorded and as it was answered again."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vla_server_base.recordings.reader import RecordedTurn

BUILD = ("model", "revision", "weights", "code_sha256", "versions", "policy")
"""What of GET /info makes a build."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One value that is another one now, or text where a step was refused."""

    session_id: str
    turn: int
    step: int
    where: str
    recorded: float | str
    replayed: float | str

    @property
    def size(self) -> float:
        """How far apart the two are; infinity where they are not numbers."""
        if isinstance(self.recorded, str) or isinstance(self.replayed, str):
            return math.inf
        return abs(self.recorded - self.replayed)

    def __str__(self) -> str:
        return (
            f"session {self.session_id} turn {self.turn} (step {self.step}): {self.where}"
            f" {self.recorded!r} recorded, {self.replayed!r} now"
        )


def compare(turn: RecordedTurn, reply: Mapping[str, Any], tolerance: float) -> Iterator[Difference]:
    """Yield what a reply has otherwise than its recorded step, numbers of actions beyond a tolerance; 0 is each bit."""
    message = turn.message

    def differs(where: str, recorded: float | str, replayed: float | str) -> Difference:
        return Difference(
            session_id=turn.session_id,
            turn=message.turn,
            step=message.step,
            where=where,
            recorded=recorded,
            replayed=replayed,
        )

    for where, before, now in (("step", message.step, reply["session"]["step"]), ("seed", message.seed, reply["seed"])):
        if before != now:
            yield differs(where, before, now)
    rows = [("action", message.action_names, message.action, reply["action"])]
    if len(message.actions) != len(reply["actions"]):
        yield differs("actions in the chunk", str(len(message.actions)), str(len(reply["actions"])))
    for number, (before, now) in enumerate(zip(message.actions, reply["actions"])):  # noqa: B905 - said above
        rows.append((f"actions[{number}]", (), before, now))
    for where, names, before, now in rows:
        if len(before) != len(now):
            yield differs(f"numbers of {where}", str(len(before)), str(len(now)))
            continue
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            if not _is_same(old, new, tolerance):
                name = f" ({names[index]})" if names else ""
                yield differs(f"{where}[{index}]{name}", old, new)


def build_differences(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """Return where two servers' GET /info differ in what may change an action, in words."""
    pairs = [(f"{name}{path}", old, new) for name in BUILD for path, old, new in _pairs(recorded, present, name)]
    return [f"{name}: {old!r} recorded, {new!r} now" for name, old, new in pairs if old != new]


def _pairs(recorded: Mapping[str, Any], present: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any, Any]]:
    old, new = recorded.get(name), present.get(name)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from ((f".{key}{path}", *rest) for path, *rest in _pairs(old, new, key))
    else:
        yield "", old, new


def _is_same(old: float, new: float, tolerance: float) -> bool:
    if tolerance:
        return abs(old - new) <= tolerance
    return old == new and math.copysign(1, old) == math.copysign(1, new)

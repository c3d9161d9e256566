"""What differs between a step as it was recorded and as it was answered again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vla_server_base.recordings.messages import StepMessage
from vla_server_base.recordings.reader import RecordedTurn

BUILD = ("model", "revision", "weights", "code_sha256", "versions", "policy")
"""What of GET /info makes a build."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One value that is another one now: a number of an action, or text."""

    session_id: str
    turn: int
    step: int
    where: str
    recorded: float | str
    replayed: float | str

    @property
    def size(self) -> float:
        """How far apart two numbers of an action are; 0 for anything else."""
        if isinstance(self.recorded, str) or isinstance(self.replayed, str):
            return 0.0
        return abs(self.recorded - self.replayed)

    def __str__(self) -> str:
        return (
            f"session {self.session_id} turn {self.turn} (step {self.step}): {self.where}"
            f" {self.recorded!r} recorded, {self.replayed!r} now"
        )


def compare(turn: RecordedTurn, reply: Mapping[str, Any], tolerance: float) -> Iterator[Difference]:
    """Yield what a reply has otherwise than its recorded step, numbers of actions beyond a tolerance; 0 is each bit."""
    for where, old, new in _pairs_of(turn.message, reply):
        if not (_is_same(old, new, tolerance) if isinstance(old, float) else old == new):
            yield Difference(
                session_id=turn.session_id,
                turn=turn.message.turn,
                step=turn.message.step,
                where=where,
                recorded=old,
                replayed=new,
            )


def _pairs_of(message: StepMessage, reply: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what is compared: its name, as it was recorded, and as it is now."""
    yield "step", str(message.step), str(reply["session"]["step"])
    yield "seed", str(message.seed), str(reply["seed"])
    names = [f" ({name})" for name in message.action_names]
    yield from _pairs_of_rows("action", message.action, reply["action"], names)
    yield "size of the chunk", str(len(message.actions)), str(len(reply["actions"]))
    # Of chunks of two sizes, the rows that both have.
    for number, (old, new) in enumerate(zip(message.actions, reply["actions"], strict=False)):
        yield from _pairs_of_rows(f"actions[{number}]", old, new, [""] * len(old))


def _pairs_of_rows(
    where: str, old: Sequence[float], new: Sequence[float], names: Sequence[str]
) -> Iterator[tuple[str, Any, Any]]:
    yield f"size of {where}", str(len(old)), str(len(new))
    for index, (name, before, now) in enumerate(zip(names, old, new, strict=False)):
        yield f"{where}[{index}]{name}", before, now


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

"""What the numbers of an action are: it decides how they are interpolated, and what holding still means."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, Optional, Union, get_args

Kind = Literal["target", "delta", "velocity", "switch"]
"""One number of an action.

- `target`: where to be. Interpolated; to hold is to stay at the last one. An angle that wraps around, or a number of a
  quaternion, would be interpolated the wrong way: make it a switch.
- `delta`: a motion per step of the policy. Each tick gets its share, so that a step's ticks add up to the row; to hold
  is 0.
- `velocity`: interpolated; to hold is 0.
- `switch`: a target that is never between two rows, such as a gripper that opens or closes.
"""

_DELTA = re.compile(r"(d|delta_?)(x|y|z|roll|pitch|yaw|rx|ry|rz)")
_AMBIGUOUS = re.compile(r"(a|action|dim|motor)?[_.]?\d+|x|y|z|roll|pitch|yaw|rx|ry|rz")
"""LIBERO's `x` is a motion, other datasets' a position."""


def kinds_of(
    names: Sequence[str], units: Sequence[str], given: Optional[Union[Kind, Mapping[str, Kind]]]
) -> tuple[Kind, ...]:
    """Return the kind of each number of an action: the `given` one, else by its name and unit.

    `dx`, `dyaw` and `delta_x` are deltas, what is measured per second is a velocity, `gripper` is a switch, and other
    numbers are targets.

    Raises:
        ValueError: a kind or a name is unknown, or a number has no kind and a name that may mean a target or a motion.
    """
    kinds: Mapping[str, Kind] = dict.fromkeys(names, given) if isinstance(given, str) else dict(given or {})
    if unknown := sorted(set(kinds).difference(names)):
        raise ValueError(f"kinds: '{unknown[0]}' is not a number of this policy's action; it has: {', '.join(names)}")
    if wrong := sorted(set(kinds.values()).difference(get_args(Kind))):
        raise ValueError(f"kinds: expected one of {', '.join(get_args(Kind))}, got '{wrong[0]}'")
    per_second = {name for name, unit in zip(names, units) if unit.endswith("/s")}
    if unclear := [name for name in names if name not in {*kinds, *per_second} and _AMBIGUOUS.fullmatch(name.lower())]:
        raise ValueError(
            f"the policy does not say whether '{unclear[0]}' of its action is a target or a motion; "
            'state it, as in kinds="target" or kinds={"x": "delta"}'
        )
    return tuple(kinds.get(name) or ("velocity" if name in per_second else _kind(name.lower())) for name in names)


def _kind(name: str) -> Kind:
    if _DELTA.fullmatch(name):
        return "delta"
    return "switch" if name == "gripper" else "target"

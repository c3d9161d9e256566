"""What changes for a robot where one policy takes the place of another."""

from vla_server_base.contract import PolicySpec

_SAME = (
    "cameras",
    "horizon",
    "action_names",
    "action_units",
    "action_formats",
    "proprio_dim",
    "proprio_names",
    "proprio_units",
    "requires_proprio",
    "takes_instruction",
    "control_hz",
)


def contract_differences(present: PolicySpec, other: PolicySpec) -> list[str]:
    """Return what robots that know `present` from a greeting or /info could not rely on with `other`, in words.

    What `other` has in addition changes nothing for them.
    """
    pairs = [(name, _shown(present, name), _shown(other, name)) for name in _SAME]
    changes = [f"{name} {new} instead of {old}" for name, old, new in pairs if new != old]
    if present.takes_goal_images and not other.takes_goal_images:
        changes.append("no goal images")
    for name in present.datasets:
        if name not in other.datasets:
            changes.append(f"no dataset '{name}'")
        elif other.actions[name] != present.actions[name]:
            changes.append(f"other actions of dataset '{name}'")
    return changes


def _shown(spec: PolicySpec, name: str) -> str:
    value = getattr(spec, name)
    if name == "cameras":
        value = [f"{each.name} {each.height}x{each.width}{' (required)' * each.required}" for each in spec.cameras]
    return "(" + ", ".join(map(str, value)) + ")" if isinstance(value, list | tuple) else str(value)

"""The names in a compiled scene, and those of them that fit into a message."""

from collections.abc import Iterable

import mujoco

ACTUATOR = mujoco.mjtObj.mjOBJ_ACTUATOR
BODY = mujoco.mjtObj.mjOBJ_BODY
JOINT = mujoco.mjtObj.mjOBJ_JOINT
SITE = mujoco.mjtObj.mjOBJ_SITE

COUNTS = {ACTUATOR: "nu", BODY: "nbody", JOINT: "njnt", SITE: "nsite"}


def names(model: mujoco.MjModel, kind: mujoco.mjtObj) -> list[str]:
    """Return all names of a kind in the scene's order; "" for what has none."""
    return [mujoco.mj_id2name(model, kind, i) or "" for i in range(getattr(model, COUNTS[kind]))]


def has(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> bool:
    """Return whether the scene has this name."""
    return mujoco.mj_name2id(model, kind, name) >= 0


def index(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> int:
    """Return the id of a name; -1 if the scene lacks it."""
    return mujoco.mj_name2id(model, kind, name)


def some(all_names: Iterable[str]) -> list[str]:
    """Return as many names as a person would read; a scene may have thousands."""
    return [name[:80] for name in all_names if name][:50]


def listed(all_names: Iterable[str], most: int = 500) -> str:
    """List names in a line of bounded length."""
    line = ", ".join(name for name in all_names if name) or "none"
    return line if len(line) <= most else line[:most] + " ..."

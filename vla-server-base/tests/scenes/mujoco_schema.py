"""MuJoCo's own list of elements and attributes."""

import ctypes
import re
from pathlib import Path

import mujoco


def schema() -> str:
    """Return MuJoCo's own list of elements and attributes."""
    library = ctypes.CDLL(str(next(Path(mujoco.__file__).parent.glob("libmujoco.so*"))))
    text = ctypes.create_string_buffer(1 << 20)
    assert library.mj_printSchema(None, text, len(text), 0, 0) > 0
    return text.value.decode()


def attributes_by_element() -> list[tuple[tuple[str, ...], list[str]]]:
    """Return the attributes of every element of MuJoCo's schema, each element by its path."""
    path: tuple[str, ...] = ()
    elements: list[tuple[tuple[str, ...], list[str]]] = []
    for line in schema().splitlines():
        element = re.match(r"( *)(?:\(world\))?(\w+) \([!?*R]\)(.*)", line)
        if element is not None:
            path = (*path[: len(element[1]) // 3], element[2])
            elements.append((path, []))
            line = element[3]
        elements[-1][1].extend(line.split())
    return elements

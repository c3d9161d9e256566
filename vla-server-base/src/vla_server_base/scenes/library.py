"""The scenes that ship with the server, as MJCF text; docs/scenes.md says what is in them.

`bundled/<robot>/<scene>.xml` of this package is the scene `<scene>` of `<robot>`; there is no other list.
"""

import functools
from importlib.resources import files

from vla_server_base.errors import UnknownName
from vla_server_base.scenes.messages import Scene

BUNDLED = files("vla_server_base.scenes") / "bundled"


def bundled_scenes() -> dict[str, tuple[str, ...]]:
    """Return the names of the bundled scenes by robot, sorted."""
    robots = sorted((entry for entry in BUNDLED.iterdir() if entry.is_dir()), key=lambda entry: entry.name)
    return {
        robot.name: tuple(
            sorted(entry.name[: -len(".xml")] for entry in robot.iterdir() if entry.name.endswith(".xml"))
        )
        for robot in robots
    }


def bundled_scene(robot: str, scene: str) -> str:
    """Return the MJCF of one bundled scene.

    Raises:
        UnknownName: no such robot, or no such scene of it.
    """
    scenes = bundled_scenes()
    if robot not in scenes:
        raise UnknownName("robot", robot, scenes)
    if scene not in scenes[robot]:
        raise UnknownName("scene", scene, scenes[robot])
    return (BUNDLED / robot / f"{scene}.xml").read_text(encoding="utf-8")


@functools.cache
def bundled_keys() -> frozenset[str]:
    """Return the keys of all bundled scenes, which every client may share."""
    return frozenset(
        Scene(xml=bundled_scene(robot, scene)).key for robot, scenes in bundled_scenes().items() for scene in scenes
    )

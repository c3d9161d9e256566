"""A tabletop whose target moves: the red cube rides on a belt across the table, and the world waits for no policy."""

from functools import lru_cache
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

from vla_server_base.scenes.messages import Scene, SceneState
from vla_server_base.tabletop.paraphrases import paraphrases
from vla_server_base.tabletop.placements import place_objects
from vla_server_base.tabletop.tables import NUM_FINGERS, OBJECTS, Table, table_of
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import Trial, home_qpos
from vla_server_base.tabletop.variants import NUM_VARIANTS, scene_variant

TARGET = "red_cube"
_TASK = TASKS[f"pick_up_{TARGET}"]

_HALF_WIDTH = 1.6
"""Of the belt, in half sizes: a cube at any angle fits on it."""
_BESIDE = 3.2
"""How far the centres of the other objects are from the belt's middle, in half sizes."""
_HALF_LENGTH_M, _HALF_HEIGHT_M = 0.5, 0.01
_PROUD_M = 0.001
"""How far the belt rises above the table."""
_MASS_KG, _GAIN = 20.0, 2000.0
"""Of the belt and its drive [N s/m]: a gripper that touches the belt does not slow it."""


@lru_cache(maxsize=NUM_VARIANTS + 1)
def moving_scene(robot: str, variant: int | None) -> Scene:
    """Return a variant of a robot's tabletop with a belt; the last number of `ctrl` is its speed along y [m/s]."""
    table, root = table_of(robot), ElementTree.fromstring(scene_variant(robot, variant).xml)
    size = f"{_HALF_WIDTH * table.half_size:.6g} {_HALF_LENGTH_M} {_HALF_HEIGHT_M}"
    belt = _child(root, "worldbody", "body", name="belt", pos=f"{_belt_x(table):.6g} 0 {_PROUD_M - _HALF_HEIGHT_M:.6g}")
    ElementTree.SubElement(belt, "joint", name="belt", type="slide", axis="0 1 0")
    geom = {"class": "furniture", "name": "belt", "size": size, "mass": str(_MASS_KG), "material": "wood"}
    ElementTree.SubElement(belt, "geom", geom)
    # It is let into the table.
    _child(root, "contact", "exclude", body1="world", body2="belt")
    _child(root, "actuator", "velocity", name="belt", joint="belt", kv=str(_GAIN))
    for key in root.iter("key"):
        key.attrib.update(qpos=key.attrib["qpos"] + " 0", ctrl=key.attrib["ctrl"] + " 0")
    return Scene(xml=ElementTree.tostring(root, encoding="unicode"))


def draw_moving_trial(seed: int, *, speed_m_s: float = 0.03, robot: str = "panda", jitter: bool = True) -> Trial:
    """Draw a trial of "pick up the red cube" in which the cube moves at a speed, to the left or to the right.

    The same seed gives the same placement at every speed. The cube starts on the side from which it crosses the table;
    the other objects lie beside the belt.

    Raises:
        UnknownName: the robot has no tabletop.
    """
    table, random = table_of(robot), np.random.default_rng([seed, 7])
    instructions = paraphrases(_TASK)
    instruction, variant = instructions[random.integers(len(instructions))], int(random.integers(NUM_VARIANTS))
    direction, home = random.choice([-1.0, 1.0]), home_qpos(robot)
    qpos = _placed(home, table, direction, random)
    speed = direction * speed_m_s
    return Trial(
        task=_TASK,
        table=table,
        seed=seed,
        scene=moving_scene(robot, variant if jitter else None),
        start=SceneState(qpos=np.append(qpos, 0.0), qvel=_carried(table, speed), ctrl=_controls(robot, speed)),
        instruction=instruction,
    )


def _belt_x(table: Table) -> float:
    return sum(table.x) / 2


def _placed(
    home: Float[np.ndarray, " nq"], table: Table, direction: float, random: np.random.Generator
) -> Float[np.ndarray, " nq"]:
    """Place the objects, the cube where it begins to cross the table, and no other in its way."""
    while True:
        qpos = place_objects(home, table, _TASK, random)
        target, *others = table.objects(qpos)
        target[:3] = _belt_x(table), -direction * random.uniform(0.3, 1.0) * table.y[1], table.half_size + _PROUD_M
        if all(abs(other[0] - target[0]) > _BESIDE * table.half_size for other in others):
            return qpos


def _carried(table: Table, speed: float) -> Float[np.ndarray, " nv"]:
    """Return velocities in which the belt carries the cube; the rest is at rest."""
    first = table.num_joints + NUM_FINGERS
    velocities = np.zeros(first + 6 * len(OBJECTS) + 1)
    velocities[first + 6 * OBJECTS.index(TARGET) + 1] = velocities[-1] = speed
    return velocities


def _controls(robot: str, speed: float) -> Float[np.ndarray, " nu"]:
    key = ElementTree.fromstring(moving_scene(robot, None).xml).find("keyframe/key[@name='home']")
    assert key is not None, "a tabletop has a home"
    controls = np.array(key.attrib["ctrl"].split(), float)
    controls[-1] = speed
    return controls


def _child(root: ElementTree.Element, section: str, tag: str, **attributes: str) -> ElementTree.Element:
    """Append an element to a section, which the scene may not have yet."""
    parent = root.find(section)
    parent = ElementTree.SubElement(root, section) if parent is None else parent
    return ElementTree.SubElement(parent, tag, attributes)

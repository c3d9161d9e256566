"""Mutates valid scenes and sends them to a pool, which must answer each one and never be lost.

`python tests/scenes/fuzz.py --seconds 600 --seed 7` prints what came out. An input is a function of the seed
and its number; one that breaks the pool is written down, so that it can become a test.
"""

import argparse
import asyncio
import copy
import random
import time
import traceback
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from plain_scene import PLAIN_XML, assert_serves, children, running

from vla_server_base.errors import RequestError
from vla_server_base.scenes.messages import RenderRequest, Scene
from vla_server_base.scenes.pool import ScenePool

SEEDS = (
    PLAIN_XML,
    """<mujoco model="arm"><compiler angle="radian" autolimits="true"/>
    <option timestep="0.002" integrator="implicitfast" iterations="20" gravity="0 0 -9.8"/>
    <size memory="10M" nkey="2" nuserdata="3"/>
    <visual><global offwidth="640" offheight="480" fovy="45"/><quality shadowsize="1024" numslices="20"/>
      <map znear="0.01" zfar="50"/><headlight ambient="0.1 0.1 0.1" diffuse="0.4 0.4 0.4"/></visual>
    <statistic extent="2" center="0 0 0.5"/>
    <default><geom friction="1 0.1 0.1" condim="3"/><joint damping="0.1" armature="0.01"/>
      <default class="finger"><geom type="capsule" size="0.02 0.05" rgba="0.2 0.2 0.8 1"/></default></default>
    <worldbody><light pos="0 0 2" dir="0 0 -1" cutoff="60"/><geom type="plane" size="1 1 0.1" rgba="0.5 0.5 0.5 1"/>
      <body name="base" pos="0 0 0.1"><geom type="cylinder" size="0.1 0.1"/><site name="foot"/>
        <body name="link" pos="0 0 0.1"><joint name="j1" axis="0 1 0" range="-1 1"/>
          <geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.04" rgba="1 0 0 1"/><site name="tip" pos="0 0 0.3"/>
          <body name="hand" pos="0 0 0.3" quat="1 0 0 0"><joint name="j2" type="ball"/><geom class="finger"/>
            <camera name="wrist" pos="0 0 0.1" euler="3 0 0" fovy="70"/></body></body></body>
      <body name="mocap" mocap="true" pos="0.3 0 0.3"><geom type="ellipsoid" size="0.05 0.03 0.1"/></body>
      <camera name="primary" pos="1 -1 1" mode="targetbody" target="base"/></worldbody>
    <contact><exclude body1="base" body2="link"/></contact>
    <tendon><spatial name="rope" width="0.01" range="0 1"><site site="tip"/><site site="foot"/></spatial></tendon>
    <equality><weld body1="hand" body2="mocap" relpose="0 0 0 1 0 0 0"/>
      <connect body1="link" anchor="0 0 0"/></equality>
    <actuator><position name="a1" joint="j1" kp="10" ctrlrange="-1 1"/><motor joint="j1" gear="2"/></actuator>
    <sensor><jointpos joint="j1"/><rangefinder site="tip"/><framepos objtype="site" objname="tip"/></sensor>
    <keyframe><key name="home" qpos="0 1 0 0 0" ctrl="0 0"/></keyframe></mujoco>""",
    """<mujoco><asset>
      <texture name="sky" type="skybox" builtin="gradient" rgb1="0.3 0.5 0.7" rgb2="0 0 0" width="32" height="192"/>
      <texture name="grid" type="2d" builtin="checker" rgb1="0.1 0.2 0.3" rgb2="0.2 0.3 0.4" width="64" height="64"/>
      <material name="grid" texture="grid" texrepeat="5 5" reflectance="0.2" specular="0.3" shininess="0.2"/>
      <mesh name="wedge" vertex="0 0 0 1 0 0 0 1 0 0 0 1" scale="0.2 0.2 0.2"/>
      <mesh name="ball" builtin="supersphere" params="12 1 1.5"/>
      <hfield name="hills" nrow="8" ncol="8" size="1 1 0.2 0.1"/></asset>
    <worldbody><light directional="true" dir="0 1 -1"/><geom type="plane" size="0 0 0.1" material="grid"/>
      <geom type="mesh" mesh="wedge" pos="0 0 0.5" rgba="0 1 0 0.5"/><geom type="mesh" mesh="ball" pos="1 0 1"/>
      <geom type="hfield" hfield="hills" pos="0 1 0"/>
      <replicate count="5" offset="0.1 0 0" euler="0 0 10">
        <body pos="0 0 1"><freejoint/><geom size="0.04"/></body></replicate>
      <frame pos="0 0 1"><geom type="box" size="0.1 0.1 0.1" material="grid"/></frame>
      <flexcomp name="cloth" type="grid" count="4 4 1" spacing="0.1 0.1 0.1" radius="0.01" dim="2" pos="0 0 2">
        <edge equality="true"/><contact selfcollide="none"/></flexcomp>
      <camera name="primary" pos="0 -3 2" xyaxes="1 0 0 0 0.5 1"
        resolution="64 64" focal="0.01 0.01" sensorsize="0.01 0.01"/>
    </worldbody></mujoco>""",
)  # fmt: skip

VALUES = (
    *("", " ", "0", "-1", "1", "2", "1e-300", "1e300", "-1e300", "nan", "inf", "-inf", "2147483647", "-2147483648"),
    *("4294967296", "0 0 0", "1 0 0 0", "0 0 0 0", "1 1", "1 2 3 4 5 6 7 8 9 10", "true", "false", "auto", "none"),
    *("sphere", "mesh", "plane", "hfield", "sdf", "free", "ball", "world", "primary", "a.png", "/etc/passwd", "é"),
    *("100", "1000", "100000", "0.5", "1e-6", "1e6", "x" * 1000, "1 " * 500),
)
ATTRIBUTES = (
    *("name", "class", "type", "size", "pos", "quat", "euler", "axisangle", "fromto", "rgba", "mass", "density"),
    *("mesh", "material", "texture", "file", "count", "params", "range", "user", "group", "contype", "mode", "target"),
    *("fovy", "focal", "resolution", "ipd", "orthographic", "extent", "znear", "zfar", "nkey", "memory", "width"),
    *("height", "nrow", "ncol", "dim", "anchor", "body1", "site", "joint", "gear", "childclass", "mocap", "gravcomp"),
)


TREES = tuple(ElementTree.fromstring(seed) for seed in SEEDS)
# What may stand in what, by example.
CHILDREN_BY_PARENT = {
    tag: [child for tree in TREES for parent in tree.iter(tag) for child in parent]
    for tag in {element.tag for tree in TREES for element in tree.iter()}
}


def mutated(random_source: random.Random) -> str:
    """Return one scene, mutated in its tree, its attributes, or its characters."""
    root = copy.deepcopy(random_source.choice(TREES))
    for _ in range(random_source.choice((1, 1, 2, 3, 8))):
        mutate_element(random_source.choice(list(root.iter())), random_source)
    xml = ElementTree.tostring(root, encoding="unicode")
    if random_source.random() < 0.05:
        at = random_source.randrange(len(xml))
        xml = xml[:at] + chr(random_source.choice((0, 9, 34, 38, 60, 62, 127, 233, 0x10FFFF))) + xml[at + 1 :]
    return xml


def mutate_element(element: ElementTree.Element, random_source: random.Random) -> None:
    """Change a value or a word of one, add an attribute or an element, or take one away."""
    present, fitting = list(element), CHILDREN_BY_PARENT[element.tag]
    kind = random_source.randrange(10)
    if kind < 2 and element.attrib:
        element.set(random_source.choice(list(element.attrib)), random_source.choice(VALUES))
    elif kind < 5 and element.attrib:
        name = random_source.choice(list(element.attrib))
        words = element.get(name, "").split() or [""]
        words[random_source.randrange(len(words))] = random_source.choice(VALUES)
        element.set(name, " ".join(words))
    elif kind == 5:
        element.set(random_source.choice(ATTRIBUTES), random_source.choice(VALUES))
    elif kind == 6 and present:
        element.remove(random_source.choice(present))
    elif kind == 7 and fitting:
        element.extend([nameless(random_source.choice(fitting))] * random_source.choice((2, 50)))
    elif fitting:
        element.append(nameless(random_source.choice(fitting)))


def nameless(element: ElementTree.Element) -> ElementTree.Element:
    """Return a copy without names, which would only be refused for being there twice."""
    copied = copy.deepcopy(element)
    for part in copied.iter():
        part.attrib.pop("name", None)
    return copied


async def fuzz(pool: ScenePool, seconds: float, seed: int) -> Counter:
    """Send scenes for so long; return how often each kind of answer came.

    Raises:
        AssertionError: an answer was none, or the pool no longer draws the plain scene; naming the input.
    """
    outcomes: Counter = Counter()
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline:
        number += 1
        xml = mutated(random.Random(f"{seed}-{number}"))
        try:
            reply = await pool.render(RenderRequest(scene=Scene(xml=xml), height=64, width=64))
            assert reply.images["primary"].shape == (64, 64, 3)
            outcomes["drawn"] += 1
        except RequestError as error:
            outcomes[error.code] += 1
        except BaseException as error:
            raise AssertionError(f"input {number} of seed {seed} broke the pool:\n{xml}") from error
        if number % 100 == 0:
            await assert_serves(pool)
    await assert_serves(pool)
    return outcomes


async def main(seconds: float, seed: int, renderer: str) -> None:
    before = children()
    async with running(renderer=renderer, scene_workers=1, scene_timeout_s=5) as pool:
        print(f"renderer {pool.renderer}, seed {seed}, {seconds:g} s")
        try:
            outcomes = await fuzz(pool, seconds, seed)
        except AssertionError as error:
            Path("fuzz-finding.txt").write_text("".join(traceback.format_exception(error)))
            raise
        for code, count in outcomes.most_common():
            print(f"{count:8d} {code}")
    assert children() == before


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--renderer", choices=("auto", "egl", "osmesa", "raycast"), default="auto")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.seconds, arguments.seed, arguments.renderer))

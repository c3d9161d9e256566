"""Valid scenes with something wrong with them: in their tree, their attributes, their characters, their files.

`mutated_scene` is a function of its source of randomness; it has no opinion on what must come of a scene.
"""

import copy
import io
import random
import zipfile
from collections.abc import Callable, Mapping
from xml.etree import ElementTree

from mujoco_schema import attributes_by_element
from plain_scene import PLAIN_XML
from scene_files import FILES

from vla_server_base.scenes import limits
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import Scene
from vla_server_base.scenes.worker.schema import ATTRIBUTES

ARM = """<mujoco model="arm"><compiler angle="radian" autolimits="true"/>
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
    <keyframe><key name="home" qpos="0 1 0 0 0" ctrl="0 0"/></keyframe></mujoco>"""
EVERYTHING = """<mujoco><asset>
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
    </worldbody></mujoco>"""
WITH_FILES = """<mujoco><compiler meshdir="meshes" texturedir="."/><asset>
      <mesh file="tetra.obj" scale="0.2 0.2 0.2"/><mesh name="stl" file="tetra.stl" inertia="shell"/>
      <texture name="wood" type="2d" file="wood.png"/><texture name="sky" type="skybox" file="wood.png" gridsize="1 1"/>
      <material name="wood" texture="wood" texuniform="true"/><hfield name="dunes" file="wood.png" size="1 1 0.2 0.1"/>
      <hfield name="hills" file="hills.bin" size="1 1 0.2 0.1"/></asset>
    <worldbody><light pos="0 0 2"/><geom type="mesh" mesh="tetra" pos="0 0 0.5"/><geom type="hfield" hfield="dunes"/>
      <geom type="hfield" hfield="hills" pos="2 0 0"/>
      <body pos="0 0 1"><freejoint/><geom type="mesh" mesh="stl" material="wood"/></body>
      <flexcomp name="soft" type="mesh" file="tetra.obj" dim="2" radius="0.01" pos="0 0 2"/>
      <camera name="primary" pos="0 -3 2" xyaxes="1 0 0 0 0.5 1"/></worldbody></mujoco>"""
WITH_ODD_FILES = """<mujoco><asset><mesh name="old" file="tetra.msh" scale="0.2 0.2 0.2"/>
      <texture name="sky" type="2d" file="sky.ktx"/></asset>
    <deformable><skin name="skin" file="tetra.skn"/></deformable>
    <worldbody><light pos="0 0 2"/><geom type="mesh" mesh="old" pos="0 0 0.5"/>
      <body name="a" pos="0 0 1"><freejoint/><geom size="0.1"/></body>
      <body name="b" pos="0.5 0 1"><joint type="ball"/><geom size="0.1"/></body>
      <flexcomp name="solid" type="gmsh" file="solid.msh" dim="3" radius="0.01" pos="0 0 2"/>
      <flexcomp name="older" type="gmsh" file="older.msh" dim="3" radius="0.01" pos="1 0 2"/>
      <flexcomp name="quads" type="mesh" file="quads.obj" dim="2" radius="0.01" pos="2 0 2"/>
      <camera name="primary" pos="0 -3 2" xyaxes="1 0 0 0 0.5 1"/></worldbody></mujoco>"""


VALUES = (
    *("", " ", "0", "-1", "1", "2", "1e-300", "1e300", "-1e300", "nan", "inf", "-inf", "2147483647", "-2147483648"),
    *("4294967296", "0 0 0", "1 0 0 0", "0 0 0 0", "1 1", "1 2 3 4 5 6 7 8 9 10", "true", "false", "auto", "none"),
    *("sphere", "mesh", "plane", "hfield", "sdf", "free", "ball", "world", "primary", "a.png", "/etc/passwd", "é"),
    *("100", "1000", "100000", "0.5", "1e-6", "1e6", "x" * 1000, "1 " * 500),
)


def _trees(texts: Mapping[str, str]) -> dict[str, ElementTree.Element]:
    return {name: ElementTree.fromstring(text) for name, text in texts.items()}


TREES = _trees(
    {
        "plain": PLAIN_XML,
        "arm": ARM,
        "everything": EVERYTHING,
        "files": WITH_FILES,
        "odd files": WITH_ODD_FILES,
        "panda": bundled_scene("panda", "tabletop"),
        "widowx": bundled_scene("widowx", "tabletop"),
    }
)
ROBOTS = ("panda", "widowx")
ELEMENTS = [element for tree in TREES.values() for element in tree.iter()]
# What may stand in what, by example.
CHILDREN_BY_PARENT: dict[str, list[ElementTree.Element]] = {element.tag: [] for element in ELEMENTS}
# And by MuJoCo's schema.
TAGS_BY_PARENT: dict[str, list[str]] = {tag: [] for tag in ATTRIBUTES}
for path, _ in attributes_by_element():
    for parent in path[-2:-1]:
        for like in ("body", "worldbody", "frame", "replicate") if parent == "body" else (parent,):
            TAGS_BY_PARENT.setdefault(like, []).append(path[-1])
ATTRIBUTES_BY_TAG: dict[str, list[str]] = {element.tag: ["name"] for element in ELEMENTS}
VALUES_BY_ATTRIBUTE: dict[str, list[str]] = {"name": []}
for element in ELEMENTS:
    CHILDREN_BY_PARENT[element.tag] += list(element)
    ATTRIBUTES_BY_TAG[element.tag] += list(element.attrib)
    for name, value in element.attrib.items():
        VALUES_BY_ATTRIBUTE.setdefault(name, []).append(value)


def mutated_scene(source: random.Random) -> tuple[str, Scene | bytes]:
    """Return what a scene was made from, a name of TREES, and the scene; or, now and then, as a zip."""
    name = source.choice(("plain", "arm", "arm", "everything", "everything", "files", "odd files", *ROBOTS))
    xml, files = _mutated_xml(TREES[name], source), FILES if name.endswith("files") else {}
    for file in files:
        if source.random() < 0.12:
            files = {**files, file: mutated_bytes(files[file], source)}
    if source.random() > 0.05:
        return name, Scene(xml=xml, assets=files)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", source.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as bundle:
        for path, content in {"scene.xml": xml.encode(), **files}.items():
            bundle.writestr(path, content)
    whole = packed.getvalue()
    return name, mutated_bytes(whole, source) if source.random() < 0.7 else whole


def _mutated_xml(tree: ElementTree.Element, source: random.Random) -> str:
    root = copy.deepcopy(tree)
    for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
        _mutate_element(source.choice(list(root.iter())), source)
    xml = ElementTree.tostring(root, encoding="unicode")
    if source.random() < 0.05:
        at = source.randrange(len(xml))
        xml = xml[:at] + chr(source.choice((0, 9, 34, 38, 60, 62, 127, 233, 0x10FFFF))) + xml[at + 1 :]
    return xml


def _mutate_element(element: ElementTree.Element, source: random.Random) -> None:
    """Change a value or a word of one, add an attribute or an element, or take one away."""
    present, fitting = list(element), CHILDREN_BY_PARENT.get(element.tag)
    kind = source.randrange(18)
    if kind < 2 and element.attrib:
        element.set(source.choice(list(element.attrib)), source.choice(VALUES))
    elif kind < 4 and element.attrib:
        _mutate_word(element, lambda _: source.choice(VALUES), source)
    elif kind < 7 and element.attrib:
        _mutate_word(element, lambda word: _scaled(word, source), source)
    elif kind == 7:
        name = source.choice(ATTRIBUTES_BY_TAG.get(element.tag, ["name"]))
        element.set(name, source.choice((*VALUES_BY_ATTRIBUTE[name], source.choice(VALUES))))
    elif kind == 8 and present:
        element.remove(source.choice(present))
    elif kind == 9 and fitting:
        element.extend([_nameless(source.choice(fitting))] * source.choice((2, 50)))
    elif kind in (10, 11) and fitting:
        element.append(_nameless(source.choice(fitting)))
    elif kind in (12, 13) and TAGS_BY_PARENT.get(element.tag):
        _add_of_schema(element, source)
    elif ATTRIBUTES.get(element.tag):
        name = source.choice(sorted(ATTRIBUTES[element.tag]))
        element.set(name, _drawn(element.tag, name, source))


def _add_of_schema(element: ElementTree.Element, source: random.Random) -> None:
    tag = source.choice(TAGS_BY_PARENT[element.tag])
    names = sorted(ATTRIBUTES.get(tag, {"name"}))
    chosen = source.sample(names, min(len(names), source.choice((0, 1, 2, 4, 8))))
    ElementTree.SubElement(element, tag, {name: _drawn(tag, name, source) for name in chosen})


def _drawn(tag: str, name: str, source: random.Random) -> str:
    """Return a value for any attribute: one seen elsewhere, the ends of its range and just beyond, or extremes."""
    seen = VALUES_BY_ATTRIBUTE.get(name)
    if seen and source.random() < 0.4:
        return source.choice(seen)
    allowed = limits.ATTRIBUTE_RANGES.get(f"{tag}/{name}") or limits.ATTRIBUTE_RANGES.get(name)
    if allowed is None:
        numbers = ("0", "1", "-1", "2", "-0", "0.5", "1e-300", "-1e-9", "1e9", "-1e9", "1e38", "1e308", "-1e308")
        words = ("true", "false", "auto", "world", "base", "link", "j1", "tip", "wedge", "grid", "")
        if source.random() < 0.3:
            return source.choice(words)
    else:
        ends = [end for end in (allowed.least, allowed.largest) if abs(end) < float("inf")]
        near = {end + by for end in ends for by in (-1, 0, 1)}
        numbers = (
            *(f"{number:.0f}" for number in sorted(near)),
            "0",
            "1",
            "-1",
            "2",
            "3",
            "4",
            "6",
            "0.5",
            "-2147483648",
        )
    return " ".join(source.choice(numbers) for _ in range(source.choice((1, 1, 1, 1, 2, 3, 3, 4, 6))))


def _mutate_word(element: ElementTree.Element, change: Callable[[str], str], source: random.Random) -> None:
    name = source.choice(list(element.attrib))
    words = element.get(name, "").split() or [""]
    at = source.randrange(len(words))
    words[at] = change(words[at])
    element.set(name, " ".join(words))


def _scaled(word: str, source: random.Random) -> str:
    """Return a number changed by a factor, and any other word as another of the kind."""
    try:
        return f"{float(word) * source.choice((-1, 0.1, 0.5, 2, 10, 1e3, 1e6)):g}"
    except ValueError:
        like = [value for values in VALUES_BY_ATTRIBUTE.values() if word in values for value in values]
        return source.choice(like or VALUES)


def _nameless(element: ElementTree.Element) -> ElementTree.Element:
    """Return a copy without names, which would only be refused for being there twice."""
    copied = copy.deepcopy(element)
    for part in copied.iter():
        part.attrib.pop("name", None)
    return copied


def mutated_bytes(content: bytes, source: random.Random) -> bytes:
    """Return a file with some bytes changed, cut off, or there twice."""
    changed = bytearray(content)
    for _ in range(source.choice((1, 2, 8))):
        at = source.randrange(len(changed)) if changed else 0
        kind = source.randrange(6)
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            changed[at:at] = changed[at : at + source.choice((1, 50, 1000))]
        elif kind == 2:
            changed[at : at + 4] = source.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\xc0\x7f"))
        elif kind == 3:
            changed[at : at + 2] = source.choice(VALUES)[:20].encode()
        elif changed:
            changed[at] ^= 1 << source.randrange(8)
    return bytes(changed)

"""Scenes that were seen to kill, wedge or rob a process that compiles, draws or steps them.

The tests send each to a pool, `benchmarks/attacks.py` sends each to a server beside a second client.
"""

import re
import struct

from vla_server_base.errors import MissingAsset, SceneCrashed, SceneError, SceneRefused
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import Scene

CAMERA = "<camera pos='0 0 3'/>"
GEOM = "<geom size='0.1'/>"


def in_world(text: str, before: str = "") -> str:
    """Return a scene with this in its world, and that before it."""
    return f"<mujoco>{before}<worldbody>{text}{CAMERA}</worldbody></mujoco>"


LARGE_CUBES = "".join(
    f"<texture name='t{i}' type='cube' builtin='flat' width='4096' height='4096'/>" for i in range(10)
)

# What screening stops, before MuJoCo sees it.
REFUSED = {
    "include of a file": in_world("<include file='/etc/passwd'/>"),
    "include by a relative path": in_world("<include file='../../secret.xml'/>"),
    "include of endless zeros": in_world("<include file='/dev/zero'/>"),
    "mesh by an absolute path": in_world(GEOM, "<asset><mesh file='/etc/hostname.stl'/></asset>"),
    "texture by a path above": in_world(GEOM, "<asset><texture type='2d' file='../a.png'/></asset>"),
    "height field of a device": in_world(GEOM, "<asset><hfield file='/dev/zero' size='1 1 1 1'/></asset>"),
    "skin file": in_world(GEOM, "<deformable><skin file='/etc/passwd'/></deformable>"),
    "flexcomp file": in_world("<flexcomp name='f' type='gmsh' file='/etc/passwd'/>"),
    "another model": in_world(GEOM, "<asset><model name='m' file='/etc/passwd'/></asset>"),
    "plugin": in_world(GEOM, "<extension><plugin plugin='/srv/evil.so'/></extension>"),
    "external entity": "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + in_world(GEOM),
    "replicate": in_world(f"<replicate count='100000'>{GEOM}</replicate>"),
    "nested replicate": in_world("<replicate count='1000'>" * 3 + GEOM + "</replicate>" * 3),
    "largest replicate": in_world(f"<replicate count='2147483647'>{GEOM}</replicate>"),
    "flat geoms": in_world(GEOM * 100_000),
    "deep nesting": in_world("<body>" * 5000 + "</body>" * 5000),
    "flexcomp of 60 x 60 x 60": in_world("<flexcomp name='f' type='grid' count='60 60 60' spacing='1 1 1'/>"),
    "flexcomp of 1e9 points": in_world("<flexcomp name='f' type='grid' count='1000 1000 1000' spacing='1 1 1'/>"),
    "keyframes": in_world(GEOM, "<size nkey='2000000000'/>"),
    "memory of 100 GB": in_world(GEOM, "<size memory='100G'/>"),
    "memory of 4 GB": in_world(GEOM, "<size memory='4G'/>"),
    "constraints": in_world(GEOM, "<size njmax='2000000000'/>"),
    "user data": in_world(GEOM, "<size nuserdata='2000000000'/>"),
    "user numbers": in_world(GEOM, "<size nuser_geom='2000000000'/>"),
    "textures that add up": in_world(GEOM, f"<asset>{LARGE_CUBES}</asset>"),
    "texture": in_world(GEOM, "<asset><texture type='2d' builtin='flat' width='50000' height='50000'/></asset>"),
    "height field of 4e8 points": in_world(GEOM, "<asset><hfield nrow='20000' ncol='20000' size='1 1 1 1'/></asset>"),
    "height field that poisons": in_world(GEOM, "<asset><hfield nrow='46341' ncol='46341' size='1 1 1 1'/></asset>"),
    "built-in mesh": in_world(GEOM, "<asset><mesh name='m' builtin='supersphere' params='9999 1 1'/></asset>"),
    "solver": in_world(GEOM, "<option solver='PGS' iterations='2000000000'/>"),
    "spheres of many slices": in_world(GEOM, "<visual><quality numslices='3000'/></visual>"),
    "shadow map": in_world(GEOM, "<visual><quality shadowsize='16384'/></visual>"),
    "image of 1e9 pixels": in_world(GEOM, "<visual><global offwidth='32768' offheight='32768'/></visual>"),
    "rangefinder of 4e8 rays": in_world(GEOM + "<camera name='c' resolution='20000 20000'/>").replace(
        "</mujoco>", "<sensor><rangefinder camera='c'/></sensor></mujoco>"
    ),
    "sensor of 2e9 numbers": in_world(GEOM).replace("</mujoco>", "<sensor><user dim='2000000000'/></sensor></mujoco>"),
    "XML of 3 MB": in_world(f"<!--{'x' * 3_000_000}-->"),
}
# What is found while compiling, by MuJoCo or after it.
ANSWERED: dict[str, tuple[str, type[SceneError]]] = {
    "exit by extent": (in_world(GEOM, "<statistic extent='1e-300'/>"), SceneRefused),
    "exit by near plane": (in_world(GEOM, "<visual><map znear='1e-30'/></visual>"), SceneRefused),
    "asset that was not sent": (in_world(GEOM, "<asset><mesh file='a.obj'/></asset>"), MissingAsset),
    "folder of assets": (in_world(GEOM, "<compiler meshdir='/etc'/><asset><mesh file='a.stl'/></asset>"), MissingAsset),
    "poison": (
        in_world(f"<body name='a'><joint/>{GEOM}</body>", "<equality><connect body1='a' anchor=''/></equality>"),
        SceneCrashed,
    ),
    "rangefinder of a large camera": (
        in_world(GEOM + "<camera name='c' resolution='4096 4096'/>").replace(
            "</mujoco>", "<sensor><rangefinder camera='c'/></sensor></mujoco>"
        ),
        SceneCrashed,  # out of memory
    ),
    "mesh of wrong faces": (
        in_world(GEOM, "<asset><mesh name='m' vertex='0 0 0 1 0 0 0 1 0 0 0 1' face='0 1 999999999'/></asset>"),
        SceneError,
    ),
    "numbers of no size": (in_world("<geom size='1e300 1e300 1e300' pos='1e300 nan 0'/>"), SceneError),
    "negative infinity of replicas": (in_world(f"<replicate count='-inf'>{GEOM}</replicate>"), SceneError),
    "no end": ("<mujoco><worldbody>", SceneError),
    "NUL": (in_world(GEOM).replace("size", "si\0ze"), SceneError),
    "positions that are no numbers": (
        in_world(f"<body><freejoint/>{GEOM}</body>").replace(
            "</mujoco>", "<keyframe><key name='home' qpos='nan nan nan nan nan nan nan'/></keyframe></mujoco>"
        ),
        SceneError,
    ),
}

# Files as strangers send them; each is named by a mesh, a height field and a texture.
RUBBISH = {
    "a.obj": b"v 1 2 3\nf 1 2 99999999\nmtllib /etc/passwd\n",
    "a.stl": bytes(80) + b"\xff\xff\xff\x7f" + bytes(range(256)),
    "a.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x10\0\0\0\x10\0\x08\x02\0\0\0" + bytes(range(256)),
    "a.msh": struct.pack("<4i", 2**31 - 1, 1, 1, 1) + bytes(range(256)),
    "a.bin": struct.pack("<2i", 2**31 - 1, 2**31 - 1) + bytes(range(256)),
}
MJB = struct.pack("<5i", 54321, 8, 4, 400, 0) + bytes(range(256)) * 8


def rubbish_scene(name: str, asset: str) -> Scene:
    """Return a scene that takes one of RUBBISH for an asset, such as `mesh name='a'`."""
    return Scene(xml=in_world(GEOM, f"<asset><{asset} file='{name}'/></asset>"), assets={name: RUBBISH[name]})


ASSET_ELEMENTS = ("mesh name='a'", "hfield name='a' size='1 1 1 1'", "texture name='a' type='2d'")

# Without its keyframe, which would no longer fit where bodies are added.
_PANDA = re.sub(r"<keyframe>.*</keyframe>", "", bundled_scene("panda", "tabletop"), flags=re.DOTALL)
_OPTION = '<option timestep="0.002"'
_PILE = """<frame pos="0.5 0 0.5"><replicate count="6" offset="0.05 0 0"><replicate count="6" offset="0 0.05 0">
    <replicate count="6" offset="0 0 0.05"><body><freejoint/><geom type="box" size="0.03 0.03 0.03"/></body>
    </replicate></replicate></replicate></frame>"""
assert _OPTION in _PANDA

# What only simulating shows: an arm that moves, in a scene that makes moving dear or impossible.
SIMULATED = {
    "time step of a nanosecond": _PANDA.replace(_OPTION, '<option timestep="1e-9"'),
    "time step of nothing": _PANDA.replace(_OPTION, '<option timestep="1e-300"'),
    "time step of a year": _PANDA.replace(_OPTION, '<option timestep="3e7"'),
    "solver that never ends": _PANDA.replace(
        _OPTION, f'{_OPTION} solver="PGS" iterations="1000" tolerance="0"'
    ).replace("</worldbody>", f"{_PILE}</worldbody>"),
    "explosion": _PANDA.replace(_OPTION, '<option timestep="0.2" gravity="0 0 -1e12"'),
}

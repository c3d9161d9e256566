"""Scenes with every kind of texture, and how OpenGL draws them, which `python textured_scenes.py` draws anew.

The images are kept so that the ray caster is compared with OpenGL where there is no OpenGL.
"""

from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "textured"
SIDE = 128

ASSETS = """
<texture name="flat" type="2d" builtin="checker" rgb1="0.9 0.2 0.1" rgb2="0.1 0.3 0.9" mark="cross"
         markrgb="1 1 1" width="100" height="60"/>
<texture name="srgb" type="2d" builtin="gradient" rgb1="0.9 0.7 0.1" rgb2="0.1 0.3 0.4" width="64" height="64"
         colorspace="sRGB"/>
<texture name="cube" type="cube" builtin="gradient" rgb1="0.9 0.9 0.1" rgb2="0.1 0.3 0.9" mark="edge"
         markrgb="0 1 1" width="64" height="384"/>
<texture name="repeated" type="cube" builtin="checker" rgb1="0.9 0.9 0.1" rgb2="0.1 0.3 0.9" width="64" height="64"/>
<texture name="sky" type="skybox" builtin="gradient" rgb1="0.4 0.6 0.8" rgb2="0.1 0 0.1" width="32" height="192"/>
<mesh name="wedge" vertex="0 0 0  0.3 0 0  0 0.3 0  0 0 0.3"/>
<hfield name="hills" nrow="4" ncol="5" size="0.15 0.12 0.08 0.02"
        elevation="0 1 0 1 0  0.3 0.5 0.3 0.5 0.3  0 1 0 1 0  0.2 0.4 0.6 0.8 1"/>
"""
SHAPES = """
<geom type="box" size="0.12 0.1 0.06" pos="-0.5 0.35 0.1" euler="10 20 30" material="m"/>
<geom type="sphere" size="0.12" pos="0 0.35 0.2" euler="10 20 30" material="m"/>
<geom type="capsule" size="0.06 0.1" pos="0.5 0.35 0.2" euler="70 20 30" material="m"/>
<geom type="cylinder" size="0.1 0.12" pos="-0.5 -0.2 0.2" euler="40 20 30" material="m"/>
<geom type="ellipsoid" size="0.1 0.06 0.15" pos="0 -0.2 0.2" euler="40 20 30" material="m"/>
<geom type="mesh" mesh="wedge" pos="0.45 -0.25 0.2" euler="40 20 30" material="m"/>
<geom type="plane" size="0.15 0.1 0.1" pos="-0.45 -0.6 0.2" euler="10 5 30" material="m"/>
<geom type="hfield" hfield="hills" pos="0 -0.6 0.2" euler="10 5 30" material="m"/>
"""
MESH = """
<mesh name="chest" vertex="-0.15 -0.15 0  0.15 -0.15 0  0.15 0.15 0  -0.15 0.15 0
                           -0.15 -0.15 0.1  0.15 -0.15 0.1  0.15 0.15 0.1  -0.15 0.15 0.1"
      texcoord="0 0  1 0  1 1  0 1  0.2 0.2  0.8 0.2  0.8 0.8  0.2 0.8"
      face="4 5 6  4 6 7  0 2 1  0 3 2  0 1 5  0 5 4  1 2 6  1 6 5  2 3 7  2 7 6  3 0 4  3 4 7"/>
"""
FLOOR = '<geom type="plane" size="{}" material="floor"/>'


def _scene(material: str, *, shapes: str = SHAPES, assets: str = "", floor: str = "", visual: str = "") -> str:
    camera = 'pos="0 -1.1 1.3" xyaxes="1 0 0 0 0.75 0.66"' if "horizon" not in visual else HORIZON
    return f"""<mujoco><visual>{visual.replace("horizon", "")}</visual>
      <asset>{ASSETS}{assets}<material name="m" {material}/>
      <material name="floor" texture="flat" texrepeat="3 3"/></asset>
      <worldbody><light pos="0 -0.5 2" dir="0 0.2 -1"/>{floor and FLOOR.format(floor)}{shapes}
      <camera name="primary" {camera} fovy="55"/></worldbody></mujoco>"""


HORIZON = 'pos="0 -2 0.3" xyaxes="1 0 0 0 0.05 1"'
CHESTS = """<geom type="mesh" mesh="chest" pos="-0.2 -0.1 0.2" euler="30 20 30" material="m"/>
            <geom type="mesh" mesh="chest" pos="0.2 0.1 0.2" euler="-60 20 70" material="m"/>"""

TEXTURED = {
    "flat": _scene('texture="flat"'),
    "flat_repeated": _scene('texture="flat" texrepeat="3 2" rgba="1 0.8 0.6 1"'),
    "flat_uniform": _scene('texture="flat" texrepeat="9 6" texuniform="true"'),
    "shiny": _scene('texture="flat" specular="1" shininess="0.3" rgba="0.5 0.5 0.5 1"'),
    "srgb": _scene('texture="srgb" emission="0.3"'),
    "cube": _scene('texture="cube"'),
    "cube_uniform": _scene('texture="cube" texuniform="true"'),
    "cube_repeated": _scene('texture="repeated" rgba="0.8 1 0.8 1"'),
    "mesh_coordinates": _scene('texture="flat" texrepeat="2 1"', shapes=CHESTS, assets=MESH),
    "floor": _scene('rgba="0.8 0.6 0.2 1"', floor="2 2 0.3"),
    "endless_floor": _scene('texture="flat"', floor="0 0 0.1"),
    "endless_strip": _scene('texture="flat"', floor="1 0 0.1"),
    "haze": _scene('texture="flat"', floor="0 0 0.1", visual='horizon<rgba haze="0.9 0.8 0.7 1"/>'),
    "transparent": _scene('texture="flat" rgba="0.8 0.8 0.8 0.5"', floor="2 2 0.1"),
}


def as_opengl_draws(name: str) -> np.ndarray:
    """Return the image that is kept of a scene."""
    return np.asarray(Image.open(FOLDER / f"{name}.png"))


def _draw_all() -> None:
    import mujoco

    from vla_server_base.scenes.messages import RenderQuality
    from vla_server_base.scenes.worker.rendering.renderer import open_renderer

    renderer = open_renderer("egl", RenderQuality())
    for name, xml in TEXTURED.items():
        model = mujoco.MjModel.from_xml_string(xml)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        drawing = renderer.prepare(model)
        image = np.ascontiguousarray(drawing.draw(data, 0, SIDE, SIDE, geom_groups=(0, 1, 2)))
        drawing.free()
        Image.fromarray(image).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    _draw_all()

"""The glTF file of a scene looks as MuJoCo draws it: shapes, places, colours, and where textures lie."""

import io
import re

import mujoco
import numpy as np
import pytest
from flat_images import as_gltf, as_mujoco
from glb_file import read_glb
from PIL import Image
from textured_scenes import CHESTS, MESH, SHAPES

from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.worker.geometry.export import export_glb

GROUPS = (0, 1, 2)
HFIELD = """<hfield name="hills" nrow="4" ncol="5" size="0.15 0.12 0.08 0.02"
            elevation="0 1 0 1 0  0.3 0.5 0.3 0.5 0.3  0 1 0 1 0  0.2 0.4 0.6 0.8 1"/>"""
ASSETS = f"""
<texture name="ramp" type="2d" file="ramp.png"/><texture name="cube" type="cube" gridsize="1 6" gridlayout="RLUDFB"
  file="faces.png"/><texture name="one" type="cube" file="ramp.png"/>
<mesh name="wedge" vertex="0 0 0  0.3 0 0  0 0.3 0  0 0 0.3"/>{HFIELD}{MESH}
"""


def ramp(blue: int) -> np.ndarray:
    """An image whose colours say where on it they are: red across, green down."""
    red, green = np.meshgrid(np.linspace(30, 225, 64), np.linspace(30, 225, 64))
    return np.stack([red, green, np.full((64, 64), blue)], axis=-1).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {"ramp.png": png(ramp(0)), "faces.png": png(np.concatenate([ramp(40 * face) for face in range(6)], axis=1))}


def agreement(material: str, shapes: str = SHAPES, floor: str = "") -> float:
    """Return the share of the pixels with a geom whose colours are the same by both, up to a tenth."""
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco><asset>{ASSETS}<material name="m" {material}/></asset><worldbody>{floor}{shapes}
        <camera pos="0 -1.1 1.3" xyaxes="1 0 0 0 0.75 0.66" fovy="55"/></worldbody></mujoco>""",
        FILES,
    )
    return agreement_of(model, mujoco.MjData(model))


def agreement_of(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    mujoco.mj_forward(model, data)
    image = as_gltf(read_glb(export_glb(model, data, GROUPS, "scene")))
    expected = as_mujoco(model, data, GROUPS)
    shown = image.any(axis=2) | expected.any(axis=2)
    assert shown.mean() > 0.03
    return float((np.abs(image.astype(int) - expected).max(axis=2)[shown] <= 25).mean())


@pytest.mark.parametrize(
    ("material", "share"),
    [
        ('rgba="0.8 0.6 0.2 1"', 0.98),
        ('texture="ramp"', 0.85),
        # MuJoCo blends the ends of a texture where it begins again: more often, if it repeats more often.
        ('texture="ramp" texrepeat="3 2" rgba="1 0.8 0.6 1"', 0.65),
        ('texture="ramp" texrepeat="9 6" texuniform="true"', 0.85),
        ('texture="cube"', 0.85),
        ('texture="cube" texuniform="true"', 0.85),
        ('texture="one"', 0.85),
    ],
)
def test_every_shape_looks_as_mujoco_draws_it(material, share):
    assert agreement(material) > share


def test_a_mesh_with_its_own_coordinates_looks_as_mujoco_draws_it():
    assert agreement('texture="ramp" texrepeat="2 1"', shapes=CHESTS) > 0.75


@pytest.mark.parametrize("size", ["2 2 0.3", "0 0 0.1", "1 0 0.1"])
@pytest.mark.parametrize("uniform", ["true", "false"])
def test_a_floor_looks_as_mujoco_draws_it(size, uniform):
    floor = f'<geom type="plane" size="{size}" material="m"/>'
    material = f'texture="ramp" texrepeat="0.7 0.5" texuniform="{uniform}"'
    assert agreement(material, shapes="", floor=floor) > 0.95


@pytest.mark.parametrize("robot", ["panda", "widowx"])
def test_a_bundled_scene_looks_as_mujoco_draws_it(robot):
    # Without its sky, which is no geom.
    xml = re.sub(r"<texture [^>]*skybox[^>]*>", "", bundled_scene(robot, "tabletop"))
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("home").id)
    assert agreement_of(model, data) > 0.98

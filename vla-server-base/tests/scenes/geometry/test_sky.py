"""A sky in the extras of a glTF file: its colours, and its image where they do not say all."""

import mujoco
import numpy as np
import pytest
from glb_file import GlbFile, read_glb

from vla_server_base.scenes.worker.geometry.export import export_glb


def exported(sky: str) -> GlbFile:
    model = mujoco.MjModel.from_xml_string(f"<mujoco><asset>{sky}</asset></mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return read_glb(export_glb(model, data, (0,), "scene"))


def test_a_scene_without_a_sky_has_none():
    assert exported("").extras["skybox"] is None


@pytest.mark.parametrize("height", [32, 192])
def test_a_flat_sky_has_one_colour_and_no_image(height):
    sky = f"<texture type='skybox' builtin='flat' rgb1='0.2 0.4 0.6' rgb2='0.2 0.4 0.6' width='32' height='{height}'/>"
    file = exported(sky)
    for place in ("up", "horizon", "down"):
        assert file.extras["skybox"][place] == pytest.approx([0.2, 0.4, 0.6], abs=0.01)
    assert "texture" not in file.extras["skybox"]
    assert "images" not in file.document


def test_a_gradient_goes_from_above_to_below():
    sky = exported("<texture type='skybox' builtin='gradient' rgb1='1 0 0' rgb2='0 0 1' width='64' height='384'/>")
    up, horizon, down = (np.array(sky.extras["skybox"][place]) for place in ("up", "horizon", "down"))
    assert up[0] > horizon[0] > down[0]
    assert up[2] < horizon[2] < down[2]


def test_a_sky_that_is_an_image_comes_with_it():
    file = exported(
        "<texture type='skybox' builtin='checker' rgb1='1 0 0' rgb2='0 0 1' width='32' height='192'"
        " mark='cross' markrgb='1 1 1'/>"
    )
    assert file.image(file.extras["skybox"]["texture"]).shape == (192, 32, 3)

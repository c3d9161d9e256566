"""What a ray meets, the material there, and the lights of a scene."""

import mujoco
import numpy as np
import pytest

from vla_server_base.scenes.worker.rendering.geom_groups import as_flags
from vla_server_base.scenes.worker.rendering.raycast.hits import Hits, cast
from vla_server_base.scenes.worker.rendering.raycast.lights import LIGHTLESS_AMBIENT, MAX_LIGHTS, scene_lights
from vla_server_base.scenes.worker.rendering.raycast.materials import read_materials
from vla_server_base.scenes.worker.rendering.raycast.rays import Rays, camera_rays
from vla_server_base.scenes.worker.rendering.raycast.sky import RADIUS, read_sky

GEOMS = """<mujoco><asset>
<texture type="skybox" builtin="flat" rgb1="0 0 1" rgb2="0 0 1" width="8" height="48"/>
<material name="shiny" rgba="0 1 0 1" emission="0.25" specular="0.75" shininess="0.125"/></asset><worldbody>
<camera name="persp" pos="0 0 5"/><camera name="ortho" pos="0 0 5" projection="orthographic" fovy="4"/>
<geom name="near" type="box" size="0.5 0.5 0.5" group="1" material="shiny"/>
<geom name="far" type="box" size="1 1 1" pos="0 0 -3" rgba="1 0 0 0.999" material="shiny"/>
<geom name="glass" type="sphere" size="0.2" pos="5 0 0" rgba="1 1 1 0.5"/></worldbody></mujoco>"""


def opened(xml: str, camera: str = "persp"):
    model = mujoco.MjModel.from_xml_string(xml)
    data, scene, view = mujoco.MjData(model), mujoco.MjvScene(model, 1), mujoco.MjvCamera()
    mujoco.mj_forward(model, data)
    if model.ncam:
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(camera).id
        mujoco.mjv_updateCamera(model, data, view, scene)
    mujoco.mjv_makeLights(model, data, scene)
    return model, data, scene


def hits_of(camera: str, groups=(0, 1, 2), reach: float = 100.0) -> tuple[mujoco.MjModel, Rays, Hits]:
    model, data, scene = opened(GEOMS, camera)
    rays = camera_rays(scene, 5, 5, slice(0, 5))
    going = np.arange(25)
    return model, rays, cast(model, data, rays, going, np.full(25, reach), as_flags(groups))


@pytest.mark.parametrize("camera", ["persp", "ortho"])
def test_a_ray_meets_the_nearest_geom_at_its_distance_with_an_outward_normal(camera):
    model, _, hits = hits_of(camera)
    middle = hits.rays.tolist().index(12)
    assert model.geom(hits.geoms[middle]).name == "near"
    assert hits.distances[middle] == pytest.approx(4.5)
    np.testing.assert_allclose(hits.normals[:, middle], [0, 0, 1], atol=1e-6)


@pytest.mark.parametrize("camera", ["persp", "ortho"])
def test_a_group_that_is_not_shown_lets_rays_pass(camera):
    model, _, hits = hits_of(camera, groups=(0,))
    middle = hits.rays.tolist().index(12)
    assert model.geom(hits.geoms[middle]).name == "far"
    assert hits.distances[middle] == pytest.approx(7)


def test_what_is_beyond_a_rays_reach_is_not_met():
    _, _, hits = hits_of("persp", reach=4.0)
    assert len(hits.rays) == 0


def test_only_the_rays_that_go_on_are_cast():
    model, data, scene = opened(GEOMS)
    rays = camera_rays(scene, 5, 5, slice(0, 5))
    hits = cast(model, data, rays, np.array([12, 0]), np.full(25, 100.0), as_flags((0, 1, 2)))
    assert hits.rays.tolist() == [12]


def test_a_geoms_own_colour_wins_over_its_materials_if_it_was_set():
    model = mujoco.MjModel.from_xml_string(GEOMS)
    materials = read_materials(model)
    near, far, glass = (model.geom(name).id for name in ("near", "far", "glass"))
    np.testing.assert_allclose(materials.rgba[:, near], [0, 1, 0, 1])
    np.testing.assert_allclose(materials.rgba[:, far], [1, 0, 0, 1], err_msg="0.999 is drawn as opaque")
    assert materials.rgba[3, glass] == 0.5
    assert materials.emission[near] == 0.25
    assert (materials.specular[far], materials.shininess[far]) == (0.75, 0.125)
    assert (materials.specular[glass], materials.shininess[glass]) == (0.5, 0.5), "MuJoCo's defaults"


def lit_by(*lights: str, active: int = 0):
    xml = f'<mujoco><visual><headlight active="{active}"/></visual><worldbody>{"".join(lights)}</worldbody></mujoco>'
    _, _, scene = opened(xml)
    return scene_lights(scene)


def test_a_directional_light_has_no_attenuation_and_a_spot_has():
    sun, spot = lit_by(
        '<light type="directional" dir="0 1 0"/>', '<light pos="0 0 2" cutoff="30" attenuation="0 1 0"/>'
    )
    assert sun.attenuation is None
    np.testing.assert_allclose(sun.direction, [0, 1, 0])
    assert spot.attenuation is not None
    np.testing.assert_allclose(spot.attenuation, [0, 1, 0])
    assert spot.cutoff_degrees == 30
    np.testing.assert_allclose(spot.position, [0, 0, 2])


def test_lights_that_opengl_does_not_know_are_left_out_and_so_are_too_many():
    assert len(lit_by('<light type="point"/>', '<light type="directional"/>')) == 1
    assert len(lit_by(*["<light/>"] * (MAX_LIGHTS + 3))) == MAX_LIGHTS


def test_a_scene_without_lights_is_lit_dimly_from_everywhere():
    (light,) = lit_by()
    np.testing.assert_allclose(light.ambient, [LIGHTLESS_AMBIENT] * 3)
    assert not light.diffuse.any()


def test_the_sky_is_a_cylinder_around_the_camera():
    sky = read_sky(mujoco.MjModel.from_xml_string(GEOMS))
    directions = np.array([[1, 0, 0], [0, 0, 1], [0.6, 0, 0.8]], float).T
    np.testing.assert_allclose(sky.distances(directions, 10.0), RADIUS * 10 / np.array([1, 1, 0.8]))


def test_a_scene_without_a_skybox_has_no_sky():
    assert read_sky(mujoco.MjModel.from_xml_string("<mujoco/>")) is None

"""A camera's rays go through the middles of its pixels."""

import mujoco
import numpy as np
import pytest

from vla_server_base.scenes.worker.rendering.raycast.rays import camera_rays

SCENE = """<mujoco><worldbody><geom size="0.1"/>
<camera name="front" pos="2 0 0.5" xyaxes="0 1 0 0 0 1" fovy="90"/>
<camera name="flat" pos="2 0 0.5" xyaxes="0 1 0 0 0 1" projection="orthographic" fovy="2"/></worldbody></mujoco>"""
FORWARD, RIGHT, UP = np.array([-1.0, 0, 0]), np.array([0, 1.0, 0]), np.array([0, 0, 1.0])


def rays_of(camera: str, height: int, width: int, rows: slice | None = None):
    model = mujoco.MjModel.from_xml_string(SCENE)
    data, scene, view = mujoco.MjData(model), mujoco.MjvScene(model, 1), mujoco.MjvCamera()
    view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(camera).id
    mujoco.mj_forward(model, data)
    mujoco.mjv_updateCamera(model, data, view, scene)
    return camera_rays(scene, height, width, rows or slice(0, height))


def test_the_middle_pixel_looks_straight_ahead_from_the_camera():
    rays = rays_of("front", 5, 7)
    np.testing.assert_allclose(rays.directions[:, 17], FORWARD, atol=1e-6)
    np.testing.assert_allclose(rays.origins[:, 17], [2, 0, 0.5], atol=1e-6)
    assert rays.share_origin


def test_directions_are_unit_vectors_and_depths_their_part_along_the_view():
    rays = rays_of("front", 6, 8)
    np.testing.assert_allclose(np.linalg.norm(rays.directions, axis=0), 1, atol=1e-9)
    np.testing.assert_allclose(rays.depths, FORWARD @ rays.directions, atol=1e-6)


def test_rows_go_from_the_top_left_and_the_field_of_view_is_the_height():
    rays = rays_of("front", 2, 2)
    corners = np.array([[-0.5, 0.5], [0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
    expected = FORWARD[:, None] + np.outer(RIGHT, corners[:, 0]) + np.outer(UP, corners[:, 1])
    np.testing.assert_allclose(rays.directions, expected / np.linalg.norm(expected, axis=0), atol=1e-6)


def test_some_rows_are_those_of_the_whole_image():
    whole, band = rays_of("front", 6, 4), rays_of("front", 6, 4, slice(2, 5))
    np.testing.assert_array_equal(band.directions, whole.directions[:, 8:20])


def test_a_step_along_row_or_column_leads_to_the_next_pixel_at_a_depth_of_one():
    rays = rays_of("front", 4, 4)
    at_depth = rays.directions / rays.depths
    np.testing.assert_allclose(at_depth[:, 1] - at_depth[:, 0], rays.along_row, atol=1e-6)
    np.testing.assert_allclose(at_depth[:, 4] - at_depth[:, 0], rays.along_column, atol=1e-6)


def test_an_orthographic_cameras_rays_are_parallel_and_start_apart():
    rays = rays_of("flat", 4, 4)
    assert not rays.share_origin
    np.testing.assert_allclose(rays.directions, np.tile(FORWARD[:, None], 16), atol=1e-6)
    np.testing.assert_allclose(rays.origins[:, 0], [2, -0.75, 0.5 + 0.75], atol=1e-6)


@pytest.mark.parametrize("camera", ["front", "flat"])
def test_where_rays_end_on_a_wall_the_next_pixel_is_on_the_wall_too(camera):
    rays = rays_of(camera, 4, 4)
    which = np.arange(16)
    normals = np.tile(-FORWARD[:, None], 16).astype(np.float32)
    distances = (rays.origins[0] + 1) / -rays.directions[0]
    spots = rays.ends(which, distances, normals)
    np.testing.assert_allclose(spots.points[0], -1, atol=1e-5)
    np.testing.assert_allclose(spots.points[:, 0] + spots.along_row[:, 0], spots.points[:, 1], atol=1e-5)
    np.testing.assert_allclose(spots.points[:, 0] + spots.along_column[:, 0], spots.points[:, 4], atol=1e-5)

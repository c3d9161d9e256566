"""Faces that are lit at their corners: runs of points that share one, and how much each corner counts."""

import mujoco
import numpy as np
import pytest

from vla_server_base.scenes.worker.rendering.raycast.facets import find_runs, to_world
from vla_server_base.scenes.worker.rendering.raycast.flat_faces import FlatFaces
from vla_server_base.scenes.worker.rendering.raycast.mesh_faces import FaceFinder, mesh_facets

SCENE = """<mujoco><asset><mesh name="tetra" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/></asset><worldbody>
<geom name="box" type="box" size="1 2 3"/>
<geom name="floor" type="plane" size="4 4 1" pos="0 0 -5" euler="0 0 90"/>
<geom name="tetra" type="mesh" mesh="tetra" pos="9 0 0"/></worldbody></mujoco>"""


@pytest.fixture(scope="module")
def scene():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_neighbours_that_share_all_parts_are_one_run():
    runs, firsts = find_runs(np.array([7, 7, 7, 8, 7]), np.array([0, 0, 1, 1, 0]))
    assert runs.tolist() == [0, 0, 1, 2, 3]
    assert firsts.tolist() == [0, 2, 3, 4]


def test_vectors_turn_with_their_geoms(scene):
    _, data = scene
    turn = data.geom("floor").xmat.reshape(3, 3).astype(np.float32)
    vectors = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    np.testing.assert_allclose(to_world(np.repeat(turn[:, :, None], 2, axis=2), vectors), turn @ vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("geom", "point", "normal"),
    [
        ("box", (1.0, 0.3, -0.7), (1, 0, 0)),
        ("box", (-0.4, -2.0, 1.1), (0, -1, 0)),
        ("box", (0.9, 1.9, 3.0), (0, 0, 1)),
        ("floor", (1.3, -2.2, 0.0), (0, 0, 1)),
    ],
)
def test_a_point_on_a_flat_face_is_the_weighted_mean_of_its_quads_corners(scene, geom, point, normal):
    model, data = scene
    geoms = np.array([model.geom(geom).id])
    eye = np.array([0.0, 0.0, 9.0])
    facets = FlatFaces(model).facets(data, eye, geoms, np.array(point, np.float32)[:, None])
    weights = np.array([corner.weights[0] for corner in facets.corners])
    middle = sum(corner.points[:, 0] * weight for corner, weight in zip(facets.corners, weights, strict=True))
    world = data.geom(geom).xpos + data.geom(geom).xmat.reshape(3, 3) @ np.array(point)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert (weights >= -1e-6).all()
    np.testing.assert_allclose(middle, world, atol=1e-4)
    np.testing.assert_allclose(facets.corners[0].normals[:, 0], normal, atol=1e-6)


def test_a_point_on_a_mesh_is_the_weighted_mean_of_its_triangles_corners(scene):
    model, data = scene
    geom = model.geom("tetra").id
    rows = range(int(model.mesh_faceadr[0]), int(model.mesh_faceadr[0] + model.mesh_facenum[0]))
    shares = np.array([0.2, 0.3, 0.5])
    points = np.array([shares @ model.mesh_vert[model.mesh_face[row]] for row in rows], np.float32).T
    faces = FaceFinder(model).find(np.zeros(len(rows), int), points)
    assert faces.tolist() == list(rows)
    facets = mesh_facets(model, data, np.full(len(rows), geom), faces, points)
    middles = sum(corner.points * corner.weights for corner in facets.corners)
    turn, place = data.geom_xmat[geom].reshape(3, 3), data.geom_xpos[geom]
    np.testing.assert_allclose(middles, turn @ points + place[:, None], atol=1e-4)
    np.testing.assert_allclose([corner.weights for corner in facets.corners], np.tile(shares[:, None], 4), atol=1e-4)


def test_a_point_off_the_mesh_lies_on_no_face(scene):
    model, _ = scene
    assert FaceFinder(model).find(np.array([0]), np.full((3, 1), 5, np.float32)).tolist() == [-1]

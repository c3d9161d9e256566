"""Where a texture's corners come to lie, by MuJoCo's own display lists."""

import mujoco
import numpy as np
import pytest

from vla_server_base.scenes.worker.rendering.raycast.mesh_faces import (
    FaceFinder,
    FaceSpots,
    corner_weights,
    texture_coordinates,
)
from vla_server_base.scenes.worker.rendering.raycast.texture_mapping import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    PLANE,
    SPHERE,
    cube_coordinates,
    cube_faces,
    drawn_sizes,
    surface_coordinates,
    surface_faces,
    unit_points,
)

ON_SURFACES = {
    "a box's top begins at its lower left": (BOX, (2, 3, 4), (-2, -3, 4.01), (0, 1)),
    "a box's top ends at its upper right": (BOX, (2, 3, 4), (2, 3, 4.01), (1, 0)),
    "a box's right side is upright": (BOX, (2, 3, 4), (2, -1.5, 2), (0.25, 0.25)),
    "a box's front is upright": (BOX, (2, 3, 4), (1, -3, -2), (0.75, 0.75)),
    "a plane begins at its lower left": (PLANE, (2, 3, 1), (-2, -3, 0), (0, 1)),
    "an endless plane is counted from its middle": (PLANE, (0, 0, 1), (0.5, 3, 0), (0.25, -1.5)),
    "a ball's top is the texture's top": (SPHERE, (2, 0, 0), (1e-3, 1e-3, 2), (0.125, 0)),
    "a ball goes round from x to y": (SPHERE, (2, 0, 0), (0, 2, 0), (0.25, 0.5)),
    "a stretched ball is as a ball": (ELLIPSOID, (1, 2, 3), (-1, 0, 0), (0.5, 0.5)),
    "a cylinder's side hangs from its top": (CYLINDER, (2, 4, 0), (0, -2, 2), (0.75, 0.25)),
    "a cylinder's lid is a disc": (CYLINDER, (2, 4, 0), (1, -1, 4), (0.75, 0.25)),
    "a capsule's side is as a cylinder's": (CAPSULE, (2, 4, 0), (0, -2, 2), (0.75, 0.25)),
    "a capsule's top cap has the texture once more": (CAPSULE, (2, 4, 0), (0, np.sqrt(2), 4 + np.sqrt(2)), (0.25, 0.5)),
    "a capsule's bottom cap too": (CAPSULE, (2, 4, 0), (0, np.sqrt(2), -4 - np.sqrt(2)), (0.25, 0.5)),
}


@pytest.mark.parametrize("name", ON_SURFACES)
def test_a_point_of_a_geom_has_its_place_on_the_texture(name):
    kind, size, point, uv = ON_SURFACES[name]
    points, sizes = column(point), drawn_sizes(np.array([kind]), np.array([size], float))
    faces = surface_faces(kind, points, sizes)
    assert surface_coordinates(kind, points, sizes, faces)[:, 0] == pytest.approx(uv, abs=2e-3)


def test_points_are_scaled_to_the_shapes_that_opengl_draws():
    capsule = drawn_sizes(np.array([CAPSULE]), np.array([[2.0, 4.0, 0.0]]))
    assert unit_points(CAPSULE, column((0, 2, 4)), capsule)[:, 0] == pytest.approx([0, 1, 1])
    assert unit_points(CAPSULE, column((0, 0, -6)), capsule)[:, 0] == pytest.approx([0, 0, -2])
    box = drawn_sizes(np.array([BOX]), np.array([[2.0, 4.0, 8.0]]))
    assert unit_points(BOX, column((2, 2, 2)), box)[:, 0] == pytest.approx([1, 0.5, 0.25])


def test_a_cube_map_has_a_face_in_every_direction_and_its_middle_on_the_axis():
    axes = np.concatenate([np.eye(3), -np.eye(3)], axis=1).astype(np.float32)
    faces = cube_faces(axes)
    assert faces.tolist() == [0, 2, 4, 1, 3, 5]
    assert cube_coordinates(axes, faces) == pytest.approx(np.full((2, 6), 0.5))
    # Table 3.20 of OpenGL 1.5: on +x, the image's columns go along -z, its rows along -y.
    assert cube_coordinates(column((1, 0.5, -0.5)), np.array([0]))[:, 0] == pytest.approx([0.75, 0.25])


def test_the_face_of_a_mesh_is_found_wherever_a_point_lies_on_it():
    random = np.random.default_rng(0)
    corners = random.normal(size=(200, 3))
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    texcoord = " ".join(f"{number:.6f}" for number in (corners[:, :2] + 1).ravel() / 2)
    vertices = " ".join(f"{number:.6f}" for number in corners.ravel())
    hull = mujoco.MjModel.from_xml_string(hull_of(vertices))
    start, count = hull.mesh_graphadr[0] + 2, hull.mesh_graph[hull.mesh_graphadr[0]]
    num_faces = hull.mesh_graph[hull.mesh_graphadr[0] + 1]
    faces = hull.mesh_graph[start + 3 * count + 3 * num_faces :][: 3 * num_faces]
    model = mujoco.MjModel.from_xml_string(
        hull_of(vertices, f'texcoord="{texcoord}" face="{" ".join(map(str, faces))}"')
    )
    rows = random.integers(0, model.mesh_facenum[0], 500)
    weights = random.dirichlet((1, 1, 1), 500).astype(np.float32).T
    points = np.einsum("pcx,cp->xp", model.mesh_vert[model.mesh_face[rows]], weights)
    meshes = np.zeros(500, int)
    finder = FaceFinder(model)
    faces = finder.find(meshes, points)
    assert (faces == rows).mean() > 0.99, "but for points on edges"
    spots = FaceSpots(meshes=meshes, faces=rows)
    assert corner_weights(model, spots, points) == pytest.approx(weights, abs=1e-3)
    inside = texture_coordinates(model, spots, weights)
    assert inside == pytest.approx((model_frame(model, points)[:2] + 1) / 2, abs=1e-3)
    assert (finder.find(meshes, points * 2) == -1).all()


def hull_of(vertices: str, rest: str = "") -> str:
    return f"""<mujoco><asset><mesh name="ball" vertex="{vertices}" {rest}/></asset>
               <worldbody><geom type="mesh" mesh="ball"/></worldbody></mujoco>"""


def model_frame(model: mujoco.MjModel, points: np.ndarray) -> np.ndarray:
    """Return points of the compiled mesh as they were in the file."""
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.mesh_quat[0])
    return turn.reshape(3, 3) @ points + model.mesh_pos[0][:, None]


def column(point: tuple[float, ...]) -> np.ndarray:
    return np.array([point], np.float32).T

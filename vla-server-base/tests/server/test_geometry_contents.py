"""What the glTF file of a scene with meshes, textures, cameras and lights holds, compared with MuJoCo itself."""

import base64

import httpx
import mujoco
import numpy as np
import pytest
from echo_server import encoded
from glb_file import GlbFile, placed
from test_geometry import geometry, simulated

WORLD = """
<mujoco>
  <visual><headlight ambient="0.2 0.2 0.2"/><map znear="0.02" zfar="30"/></visual>
  <statistic center="0 0 0.5" extent="2"/>
  <asset>
    <mesh name="tetra" file="meshes/tetra.obj"/>
    <texture name="wood" type="2d" file="wood.png"/>
    <texture name="faces" type="cube" builtin="flat" mark="edge" width="16" height="96"/>
    <hfield name="hills" nrow="3" ncol="4" size="1 0.5 0.2 0.1" elevation="0 1 0 1  0 0 1 0  1 0 0 1"/>
    <material name="wood" texture="wood" texrepeat="2 2" shininess="1" specular="1"/>
    <material name="dice" texture="faces"/>
    <material name="glass" rgba="0.2 0.5 1 0.4"/>
    <material name="lamp" rgba="1 1 0 1" emission="0.5"/>
    <material name="metal" metallic="0.9" roughness="0.3"/>
  </asset>
  <worldbody>
    <light name="sun" type="directional" dir="0 0 -1" castshadow="false"/>
    <geom name="floor" type="plane" size="0 0 1"/>
    <geom name="hills" type="hfield" hfield="hills" pos="3 0 0"/>
    <body name="tetra" pos="0 0 1" euler="10 20 30"><freejoint/>
      <geom name="tetra" type="mesh" mesh="tetra" material="wood" mass="1"/></body>
    <body name="hand" mocap="true" pos="0 1 1"><geom name="hand" size="0.1" material="glass"/></body>
    <body pos="1 0 1"><joint name="hinge" axis="0 1 0"/>
      <geom name="dice" type="box" size="0.1 0.1 0.1" material="dice"/>
      <geom name="hidden" size="0.1" group="3"/><geom name="nothing" size="0.1" rgba="1 0 0 0"/>
      <geom name="lamp" type="capsule" size="0.05 0.1" material="lamp"/>
      <geom name="metal" type="ellipsoid" size="0.1 0.2 0.3" material="metal"/>
      <camera name="eye" pos="0 0 0.1" xyaxes="0 -1 0 0 0 1" fovy="60" resolution="320 240"/>
      <light name="spot" type="spot" pos="0 0 0.2" dir="1 0 0" cutoff="30" diffuse="1 0.5 0.5"/>
      <light name="off" active="false"/></body>
  </worldbody>
</mujoco>
"""
TETRA = b"""v 0 0 0
v 1 0 0
v 0 1 0
v 0 0 1
f 1 3 2
f 1 2 4
f 1 4 3
f 2 3 4
"""
WOOD = np.arange(768, dtype=np.uint8).reshape(16, 16, 3)
ENCODED = {"meshes/tetra.obj": base64.b64encode(TETRA).decode(), "wood.png": encoded(WOOD)}
ASSETS = {name: base64.b64decode(content) for name, content in ENCODED.items()}


def own_scene() -> tuple[mujoco.MjModel, mujoco.MjData]:
    return simulated(WORLD, ASSETS)


@pytest.fixture(scope="module")
def own(url) -> GlbFile:
    with httpx.Client(base_url=url, timeout=30) as client:
        return geometry(client, xml_string=WORLD, assets=ENCODED)


def geom_node(file: GlbFile, name: str) -> dict:
    (node,) = [node for _, node in file.all("geom").values() if node["extras"]["name"] == name]
    return node


def pbr(file: GlbFile, name: str) -> dict:
    return file.material(geom_node(file, name))["pbrMetallicRoughness"]


def test_a_mesh_has_the_triangles_of_mujocos(own):
    model, _ = own_scene()
    geom = model.geom("tetra").id
    vertices = model.mesh_vert[model.mesh_face[: model.mesh_facenum[0]]].astype(float)
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
    expected = vertices @ turn.reshape(3, 3).T + model.geom_pos[geom]
    np.testing.assert_allclose(own.triangles(geom_node(own, "tetra")), expected, atol=1e-6)


def test_a_height_field_has_mujocos_heights_on_a_closed_body(own):
    corners = own.triangles(geom_node(own, "hills"))
    points = corners.reshape(-1, 3)
    np.testing.assert_allclose(points.min(axis=0), [2, -0.5, -0.1], atol=1e-6)
    np.testing.assert_allclose(points.max(axis=0), [4, 0.5, 0.2], atol=1e-6)
    assert pytest.approx(min(points.tolist(), key=lambda p: np.hypot(p[0] - 10 / 3, p[1]) - p[2])) == [
        3 + 1 / 3,
        0,
        0.2,
    ]
    assert volume(corners) == pytest.approx(2 * 1 * (0.1 + 0.2 * 5 / 12), rel=0.2)


def volume(corners: np.ndarray) -> float:
    """What closed triangles enclose; negative if they are inside out."""
    a, b, c = corners.transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dice", 0.2**3),
        ("lamp", np.pi * 0.05**2 * (0.2 + 4 / 3 * 0.05)),
        ("metal", 4 / 3 * np.pi * 0.1 * 0.2 * 0.3),
        ("tetra", 1 / 6),
    ],
)
def test_shapes_are_closed_and_not_inside_out(own, name, expected):
    assert volume(own.triangles(geom_node(own, name))) == pytest.approx(expected, rel=0.05)


def test_an_endless_plane_has_an_end(own):
    node = geom_node(own, "floor")
    assert node["extras"]["infinite"]
    np.testing.assert_allclose(np.abs(own.triangles(node)).max(axis=(0, 1)), [40, 40, 0])


def test_what_no_image_shows_is_left_out_and_groups_can_be_chosen(client, own):
    names = {node["extras"]["name"] for _, node in own.all("geom").values()}
    assert names == {"floor", "hills", "tetra", "hand", "dice", "lamp", "metal"}
    file = geometry(client, xml_string=WORLD, assets=ENCODED, render={"geom_groups": [3]})
    assert [node["extras"] for _, node in file.all("geom").values()] == [{"geom": 5, "name": "hidden", "group": 3}]


def test_a_materials_colours_are_in_linear_light(own):
    assert pbr(own, "hand")["baseColorFactor"] == pytest.approx([0.0331, 0.2140, 1, 0.4], abs=1e-3)
    assert own.material(geom_node(own, "hand"))["alphaMode"] == "BLEND"
    assert own.material(geom_node(own, "lamp"))["emissiveFactor"] == pytest.approx([0.2140, 0.2140, 0], abs=1e-3)
    assert (pbr(own, "metal")["metallicFactor"], pbr(own, "metal")["roughnessFactor"]) == pytest.approx((0.9, 0.3))
    assert pbr(own, "tetra")["roughnessFactor"] < 0.4 < pbr(own, "lamp")["roughnessFactor"]


def test_textures_are_the_images_that_mujoco_has(own):
    model, _ = own_scene()
    wood, faces = (pbr(own, name)["baseColorTexture"]["index"] for name in ("tetra", "dice"))
    pixels = model.tex_data[model.tex_adr[0] :][: 16 * 16 * 3].reshape(16, 16, 3)
    np.testing.assert_array_equal(own.image(wood), pixels)
    assert own.image(faces).shape == (96, 16, 3)
    assert (own.sampler(wood)["wrapS"], own.sampler(faces)["wrapS"]) == (10497, 33071)


def test_cameras_and_lights_are_at_their_places_in_their_bodies(own):
    _, data = own_scene()
    ((body, eye),) = own.all("camera").values()
    position, axes = placed(body, eye)
    np.testing.assert_allclose(position, data.cam_xpos[0], atol=1e-6)
    np.testing.assert_allclose(axes, data.cam_xmat[0].reshape(3, 3), atol=1e-6)
    lens = own.document["cameras"][eye["camera"]]["perspective"]
    expected = {"yfov": np.pi / 3, "aspectRatio": 4 / 3, "znear": 0.04, "zfar": 60}
    assert lens == pytest.approx(expected, rel=1e-5)
    for light, (body, node) in own.all("light").items():
        position, axes = placed(body, node)
        np.testing.assert_allclose(position, data.light_xpos[light], atol=1e-6)
        np.testing.assert_allclose(-axes[:, 2], data.light_xdir[light], atol=1e-6)


def test_lights_that_are_on_have_their_kind_and_colour(own):
    nodes = {node["name"]: node for _, node in own.all("light").values()}
    lights = own.document["extensions"]["KHR_lights_punctual"]["lights"]
    sun, spot = (lights[nodes[name]["extensions"]["KHR_lights_punctual"]["light"]] for name in ("sun", "spot"))
    assert nodes.keys() == {"sun", "spot"}
    assert (nodes["sun"]["extras"]["castshadow"], nodes["spot"]["extras"]["castshadow"]) == (False, True)
    assert (sun["type"], spot["type"]) == ("directional", "spot")
    assert spot["color"] == [1.0, 0.5, 0.5]
    assert spot["spot"]["outerConeAngle"] == pytest.approx(np.pi / 6)


def test_bodies_say_what_moves(own):
    extras = {node["name"]: node["extras"] for node in own.bodies}
    assert [name for name, each in extras.items() if not each["static"]] == ["tetra", "hand", "body_3"]
    assert [name for name, each in extras.items() if each["free"]] == ["tetra"]


def test_a_state_moves_the_bodies(client, own):
    qpos = [1.0, 2, 3, 0, 1, 0, 0, 0.5]
    file = geometry(client, xml_string=WORLD, assets=ENCODED, state={"qpos": qpos})
    assert file.bodies[1]["translation"] == [1, 2, 3]
    assert file.bodies[1]["rotation"] == pytest.approx([1, 0, 0, 0])
    assert file.extras["state"]["qpos"] == qpos
    assert own.extras["state"]["qpos"] != qpos


def test_equal_shapes_share_a_mesh_and_unequal_sizes_its_arrays(client):
    geoms = "".join(f'<geom type="box" size="{size} 1 1"/>' for size in (1, 1, 2))
    file = geometry(
        client,
        xml_string=f'<mujoco><worldbody>{geoms}<geom type="box" size="1 1 1" rgba="1 0 0 1"/></worldbody></mujoco>',
    )
    assert [node["mesh"] for _, node in file.all("geom").values()] == [0, 0, 0, 1]
    assert len(file.document["accessors"]) == 3


def test_a_scene_without_geoms_cameras_and_lights_is_a_file_too(client):
    file = geometry(client, xml_string="<mujoco/>")
    assert [node["extras"]["body"] for node in file.bodies] == [0]
    assert not file.binary

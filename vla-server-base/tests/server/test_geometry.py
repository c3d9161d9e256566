"""POST /scenes/geometry: what the glTF file of a scene holds, compared with MuJoCo itself."""

import base64

import httpx
import mujoco
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour
from glb_file import GlbFile, read_glb
from test_health import SlowToLoad
from test_scene_uploads import zipped
from test_scenes import TEXTURED

from vla_server_base.scenes.library import bundled_scene
from vla_server_base.server.uvicorn_server import serving

BUNDLED = {robot: bundled_scene(robot, "tabletop") for robot in ("panda", "widowx")}


def asked(client: httpx.Client, **body) -> httpx.Response:
    response = client.post("/scenes/geometry", json=body)
    assert response.status_code == 200, response.text
    return response


def geometry(client: httpx.Client, **body) -> GlbFile:
    return read_glb(asked(client, **body).content)


def simulated(xml: str, assets: dict[str, bytes] | None = None) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """A scene in MuJoCo, at its keyframe `home` where it has one."""
    model = mujoco.MjModel.from_xml_string(xml, assets or {})
    data = mujoco.MjData(model)
    if (home := mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, "home")) >= 0:
        mujoco.mj_resetDataKeyframe(model, data, home)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.mark.parametrize("robot", BUNDLED)
def test_each_body_is_a_node_at_its_place_in_the_world(client, robot):
    file = geometry(client, xml_string=BUNDLED[robot])
    model, data = simulated(BUNDLED[robot])
    assert [node["extras"]["body"] for node in file.bodies] == list(range(model.nbody))
    assert file.root["children"] == list(range(model.nbody))
    assert [node["name"] for node in file.bodies] == [model.body(body).name for body in range(model.nbody)]
    np.testing.assert_allclose([node["translation"] for node in file.bodies], data.xpos, atol=1e-6)
    np.testing.assert_allclose([np.roll(node["rotation"], 1) for node in file.bodies], data.xquat, atol=1e-6)


@pytest.mark.parametrize("robot", BUNDLED)
def test_a_body_says_its_parent_and_whether_it_can_move_or_be_dragged(client, robot):
    extras = {node["name"]: node["extras"] for node in geometry(client, xml_string=BUNDLED[robot]).bodies}
    model, _ = simulated(BUNDLED[robot])
    assert [each["parent"] for each in extras.values()] == model.body_parentid.tolist()
    assert [name for name, each in extras.items() if each["free"]] == ["red_cube", "blue_cube", "green_sphere"]
    assert extras["blue_cube"]["qpos"] == model.joint("blue_cube").qposadr[0]
    assert "qpos" not in extras["world"]
    assert [each["static"] for each in extras.values()] == (model.body_weldid == 0).tolist()


@pytest.mark.parametrize("robot", BUNDLED)
def test_each_geom_is_a_child_of_its_body_as_large_as_in_mujoco(client, robot):
    file = geometry(client, xml_string=BUNDLED[robot])
    model, data = simulated(BUNDLED[robot])
    geoms = file.all("geom")
    assert geoms.keys() == {geom for geom in range(model.ngeom) if model.geom_group[geom] <= 2}
    for geom, (body, node) in geoms.items():
        assert body["extras"]["body"] == model.geom_bodyid[geom]
        corners = file.triangles(node).reshape(-1, 3)
        in_world = corners @ data.xmat[model.geom_bodyid[geom]].reshape(3, 3).T + data.xpos[model.geom_bodyid[geom]]
        own = (in_world - data.geom_xpos[geom]) @ data.geom_xmat[geom].reshape(3, 3)
        middle, half = np.split(model.geom_aabb[geom], 2)
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
            middle, half = np.zeros(3), np.array([*model.geom_size[geom, :2], 0])
        np.testing.assert_allclose(own.max(axis=0), middle + half, atol=1e-6)
        np.testing.assert_allclose(own.min(axis=0), middle - half, atol=1e-6)


def test_the_root_turns_z_up_to_y_up(client):
    root = geometry(client, xml_string=BUNDLED["panda"]).root
    assert root["name"] == "world"
    x, y, z, w = root["rotation"]
    assert (y, z) == (0, 0)
    assert 2 * np.arctan2(x, w) == pytest.approx(-np.pi / 2)


def test_the_scene_says_what_gltf_cannot(client):
    extras = geometry(client, xml_string=BUNDLED["panda"]).extras
    model, data = simulated(BUNDLED["panda"])
    assert extras["bodies"] == [model.body(body).name for body in range(model.nbody)]
    assert extras["joints"] == [model.joint(joint).name for joint in range(model.njnt)]
    assert extras["state"]["qpos"] == data.qpos.tolist()
    assert (extras["extent"], extras["center"]) == (1.2, [0.35, 0.0, 0.2])
    assert extras["headlight"]["ambient"] == pytest.approx([0.33] * 3)
    assert extras["skybox"]["up"] == pytest.approx([0.82, 0.85, 0.87], abs=0.01)
    assert extras["skybox"]["down"] == pytest.approx([0.65, 0.68, 0.71], abs=0.01)


def test_the_scene_id_of_a_reply_names_the_scene_from_then_on(client):
    first = asked(client, xml_string=BUNDLED["panda"])
    scene_id = first.headers["X-Scene-Id"]
    assert read_glb(first.content).extras["scene_id"] == scene_id
    again = asked(client, scene_id=scene_id)
    assert (again.content, again.headers["ETag"]) == (first.content, first.headers["ETag"])
    assert again.headers["Content-Type"] == "model/gltf-binary"
    predicted = client.post("/predict", json={"instruction": "go", "scene_id": scene_id})
    assert predicted.json()["scene_id"] == scene_id


def test_a_zip_is_answered(client):
    bundle = zipped(
        {"scene.xml": TEXTURED.format(file="floor.png"), "floor.png": base64.b64decode(of_one_colour(0, 0, 255))}
    )
    response = client.post("/scenes/geometry", files={"scene": ("scene.zip", bundle)})
    assert response.status_code == 200, response.text
    assert (read_glb(response.content).image(0) == [0, 0, 255]).all()


def test_a_scene_is_answered_while_the_model_loads():
    adapter = SlowToLoad()
    with serving(echo_app(adapter)) as url, httpx.Client(base_url=url, timeout=30) as client:
        file = geometry(client, xml_string=BUNDLED["widowx"])
        assert client.get("/info").json()["model_status"] == "loading"
        adapter.gate.set()
    assert len(file.bodies) == 13


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("invalid_request", {}),
        ("invalid_request", {"xml_string": "<mujoco/>", "image": "aaaa"}),
        ("unknown_scene_id", {"scene_id": "0" * 64}),
        ("scene_missing_asset", {"xml_string": TEXTURED.format(file="floor.png")}),
        ("scene_invalid", {"xml_string": "<mujoco>"}),
        ("scene_refused", {"xml_string": "<mujoco><extension><plugin plugin='/srv/evil.so'/></extension></mujoco>"}),
        ("scene_missing_asset", {"xml_string": '<mujoco><include file="/etc/passwd"/></mujoco>'}),
        ("scene_state", {"xml_string": BUNDLED["panda"], "state": {"qpos": [0]}}),
        ("unknown_keyframe", {"xml_string": BUNDLED["panda"], "state": {"keyframe": "away"}}),
    ],
)
def test_a_scene_is_refused_as_predict_refuses_it(client, code, body):
    response = client.post("/scenes/geometry", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    predicted = client.post("/predict", json={"instruction": "go", **body})
    assert "image" in body or predicted.json()["error"]["code"] == code


def test_a_body_without_its_content_type_is_refused(client):
    response = client.post("/scenes/geometry", content="{}", headers={"Content-Type": "text/plain"})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media")


def test_a_scene_of_too_much_geometry_is_refused_and_can_still_be_drawn(client):
    assets = """<hfield name="h" nrow="800" ncol="800" size="1 1 1 1"/><material name="m" texture="t"/>
    <texture name="t" type="2d" builtin="flat" width="8" height="8"/>"""
    geom = "<geom type='hfield' hfield='h' contype='0' conaffinity='0' {}/>"
    world = f"<camera name='primary'/>{geom.format('')}" + geom.format("material='m'")
    scene = f"<mujoco><asset>{assets}</asset><worldbody>{world}</worldbody></mujoco>"
    for _ in range(3):
        response = client.post("/scenes/geometry", json={"xml_string": scene})
        assert (response.status_code, response.json()["error"]["code"]) == (422, "scene_refused")
        assert "60 MB" in response.json()["error"]["message"]
        assert "geom_groups" in response.json()["error"]["hint"]
    assert client.post("/predict", json={"instruction": "go", "xml_string": scene}).status_code == 200


def test_a_scene_that_was_answered_needs_no_worker_again():
    app = echo_app(renderer="raycast")
    with serving(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        first = asked(client, xml_string=BUNDLED["panda"])
        app.state.service.pool.workers.is_closing = True
        assert asked(client, xml_string=BUNDLED["panda"]).content == first.content
        assert asked(client, scene_id=first.headers["X-Scene-Id"]).content == first.content
        moved = client.post("/scenes/geometry", json={"xml_string": BUNDLED["panda"], "state": {"keyframe": 0}})
        assert moved.json()["error"]["code"] == "unavailable"
        app.state.service.pool.workers.is_closing = False


def test_a_body_that_was_dragged_is_where_it_was_put(client):
    put = {"bodies": {"red_cube": {"position": [0.4, 0.1, 0.3], "quaternion": [0, 0, 0, 1]}}}
    file = geometry(client, xml_string=BUNDLED["panda"], state=put)
    (cube,) = [node for node in file.bodies if node["name"] == "red_cube"]
    assert (cube["translation"], cube["rotation"]) == ([0.4, 0.1, 0.3], [0, 0, 1, 0])
    assert geometry(client, xml_string=BUNDLED["panda"]).bodies != file.bodies

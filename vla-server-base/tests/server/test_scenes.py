"""POST /predict with scenes, drawn by real workers; and the scenes that ship with the server."""

import base64
import io
import xml.etree.ElementTree as ElementTree

import httpx
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy
from PIL import Image

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing.echo import instruction_number, noise

# A camera in a lit box of one colour, and one that looks away from it.
ROOM = """
<mujoco>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
  <worldbody>
    <camera name="{first}" pos="0 0 1"/>
    <camera name="{second}" pos="0 0 1" xyaxes="1 0 0 0 -1 0"/>
    <geom type="plane" size="9 9 1" rgba="1 0 0 1"/>
    <geom type="box" pos="0 0 3" size="9 9 1" rgba="0 0 1 1"/>
    <body mocap="true"><geom type="sphere" pos="9 9 9" size=".1"/></body>
    <body pos="0 0 9"><joint name="lid" type="slide"/><geom type="box" size="9 9 .1" rgba="0 1 0 1"/></body>
  </worldbody>
  <actuator><position joint="lid"/></actuator>
  <keyframe><key name="shut" qpos="-8.8"/></keyframe>
</mujoco>
"""
TWO_VIEWS = ROOM.format(first="primary", second="wrist")
TEXTURED = """
<mujoco>
  <asset><texture name="t" type="2d" file="{file}"/><material name="m" texture="t"/></asset>
  <worldbody><camera name="primary" pos="0 0 1"/><geom type="plane" size="9 9 1" material="m"/></worldbody>
</mujoco>
"""


def predicted(client: httpx.Client, **body) -> dict:
    response = client.post("/predict", json={"instruction": "go", "seed": 0, "return_image": True, **body})
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: httpx.Client, code: str, **body) -> dict:
    response = client.post("/predict", json={"instruction": "go", **body})
    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    return response.json()["error"]


def strongest(reply: dict, camera: str) -> str:
    """The colour that a camera saw most of."""
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(reply["images"][camera]))))
    assert pixels.shape == (224, 224, 3)
    return ("red", "green", "blue")[pixels.mean(axis=(0, 1)).argmax()]


def test_a_scene_is_drawn_through_both_cameras_and_answered(client):
    reply = predicted(client, xml_string=TWO_VIEWS)
    assert reply["cameras"] == {"primary": "primary", "wrist": "wrist"}
    assert (strongest(reply, "primary"), strongest(reply, "wrist")) == ("red", "blue")
    assert reply["action"][0] > reply["action"][2]
    assert reply["action"][3] > 0
    assert reply["action"][4:] == [instruction_number("go"), 1.0, noise(0), noise(0)]
    assert reply["timing_ms"]["render"] > 0


def test_the_same_scene_again_is_not_compiled_again_and_gives_the_same_answer(client):
    first = predicted(client, xml_string=TWO_VIEWS)
    again = predicted(client, xml_string=TWO_VIEWS)
    assert again["timing_ms"]["compile"] == 0
    assert again["actions"] == first["actions"]


def test_cameras_can_be_chosen(client):
    reply = predicted(client, xml_string=TWO_VIEWS, camera="wrist", wrist_camera="")
    assert reply["cameras"] == {"primary": "wrist"}
    assert (strongest(reply, "primary"), reply["action"][3]) == ("blue", 0.0)
    other = ROOM.format(first="front", second="hand")
    reply = predicted(client, xml_string=other, wrist_camera="hand")
    assert reply["cameras"] == {"primary": "front", "wrist": "hand"}


@pytest.mark.parametrize("state", [{"qpos": [-8.8]}, {"keyframe": "shut"}, {"keyframe": 0}])
def test_a_state_moves_the_scene(client, state):
    assert strongest(predicted(client, xml_string=TWO_VIEWS, state=state), "primary") == "green"


def test_all_parts_of_a_state_are_taken(client):
    state = {"qvel": [0.5], "ctrl": [1], "mocap_pos": [[1, 2, 3]], "mocap_quat": [[1, 0, 0, 0]]}
    assert strongest(predicted(client, xml_string=TWO_VIEWS, state=state), "primary") == "red"


def test_assets_reach_the_scene(client):
    scene = TEXTURED.format(file="floor.png")
    reply = predicted(client, xml_string=scene, assets={"floor.png": of_one_colour(0, 0, 255)})
    assert strongest(reply, "primary") == "blue"


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        ("scene_invalid", {"xml_string": "<mujoco>\n<worldbody>\n</mujoco>"}, "line 3"),
        ("scene_invalid", {"xml_string": ""}, "malformed"),
        ("scene_invalid", {"xml_string": "<mujoco/>"}, "no camera"),
        ("scene_missing_asset", {"xml_string": '<mujoco><include file="/etc/passwd"/></mujoco>'}, "/etc/passwd"),
        ("scene_missing_asset", {"xml_string": TEXTURED.format(file="/etc/hostname")}, "/etc/hostname"),
        ("scene_missing_asset", {"xml_string": TEXTURED.format(file="floor.png")}, "floor.png"),
        ("scene_state", {"xml_string": TWO_VIEWS, "state": {"qpos": [0, 0]}}, "qpos"),
        ("scene_state", {"xml_string": TWO_VIEWS, "state": {"mocap_pos": []}}, "mocap_pos"),
        ("unknown_camera", {"xml_string": TWO_VIEWS, "camera": "top"}, "'top'"),
        ("unknown_camera", {"xml_string": TWO_VIEWS, "wrist_camera": "hand"}, "'hand'"),
        ("unknown_keyframe", {"xml_string": TWO_VIEWS, "state": {"keyframe": "open"}}, "'open'"),
        ("invalid_request", {"xml_string": TWO_VIEWS, "assets": {"a.png": "***"}}, "asset 'a.png'"),
    ],
)
def test_a_scene_that_cannot_be_drawn_is_refused_with_the_reason(client, code, body, said):
    assert said in refused(client, code, **body)["message"]


def test_a_scene_that_takes_too_long_is_given_up_and_the_next_is_served():
    many = '<replicate count="3900" offset=".1 0 0"><geom size=".05"/></replicate>'
    heavy = TWO_VIEWS.replace("</worldbody>", 4 * many + "</worldbody>")
    with serving(echo_app(scene_timeout_s=1)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        error = refused(client, "scene_timeout", xml_string=heavy)
        assert "1 s" in error["message"]
        assert predicted(client, xml_string=TWO_VIEWS)["action"]


@pytest.fixture(scope="module")
def roomy():
    """A server that takes large bodies, but gives scenes 1 GB at most."""
    with serving(echo_app(scene_memory_mb=1000)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        yield client


def test_a_scene_that_needs_too_much_memory_is_given_up_and_the_next_is_served(roomy):
    rays = '<worldbody><camera name="many" resolution="4096 4096"/>'  # a rangefinder casts one for each pixel
    sensor = '<sensor><rangefinder camera="many"/></sensor></mujoco>'
    hungry = TWO_VIEWS.replace("<worldbody>", rays).replace("</mujoco>", sensor)
    assert "memory" in refused(roomy, "scene_crashed", xml_string=hungry)["message"]
    assert predicted(roomy, xml_string=TWO_VIEWS)["action"]


def test_a_body_of_many_megabytes_is_read(roomy):
    unused = {"large.bin": base64.b64encode(bytes(12 * 2**20)).decode()}
    assert predicted(roomy, xml_string=TWO_VIEWS, assets=unused)["action"]


def test_without_a_renderer_pictures_are_answered_and_scenes_get_the_reason(monkeypatch):
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere.json")
    with serving(echo_app(renderer="egl")) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        info = client.get("/info").json()
        refusal = client.post("/predict", json={"instruction": "go", "xml_string": TWO_VIEWS})
        picture = client.post("/predict", json={"instruction": "go", "image": of_one_colour(1, 2, 3)})
    assert info["renderer"] is None
    assert info["renderers_tried"]["egl"]
    assert info["confinement"] is None
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "renderer_unavailable")
    assert refusal.json()["error"]["hint"]
    assert "retry-after" in refusal.headers
    assert picture.status_code == 200


def test_info_names_the_renderer(client, url):
    wait_until_healthy(url)
    assert client.get("/info").json()["renderer"] in {"egl", "osmesa", "raycast"}


def test_info_says_what_the_kernel_keeps_from_a_scene(client, url):
    wait_until_healthy(url)
    confinement = client.get("/info").json()["confinement"]
    assert set(confinement) == {"files", "network", "programs", "reason"}
    assert (confinement["reason"] is None) == all(confinement[kind] for kind in ("files", "network", "programs"))


def test_every_bundled_scene_is_listed_readable_and_answered(client):
    robots = client.get("/scenes").json()["robots"]
    assert {"panda", "widowx"} <= set(robots)
    for robot, scenes in robots.items():
        for scene in scenes:
            response = client.get(f"/scenes/{robot}/{scene}")
            assert response.headers["content-type"].startswith("application/xml")
            assert ElementTree.fromstring(response.text).tag == "mujoco"
            reply = predicted(client, xml_string=response.text)
            assert reply["cameras"] == {"primary": "primary", "wrist": "wrist"}


@pytest.mark.parametrize(
    ("path", "code", "known"),
    [
        ("/scenes/r2d2/tabletop", "unknown_robot", "panda"),
        ("/scenes/panda/moon", "unknown_scene", "tabletop"),
    ],
)
def test_an_unknown_robot_or_scene_is_refused_with_the_known(client, path, code, known):
    response = client.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, code)
    assert known in response.json()["error"]["hint"]


def test_a_request_chooses_the_groups_of_geoms_and_the_reply_says_which_were_drawn(client):
    grouped = ROOM.replace('type="plane"', 'type="plane" group="1"').format(first="primary", second="wrist")
    seen = predicted(client, xml_string=grouped, wrist_camera="")
    assert (strongest(seen, "primary"), seen["geom_groups"]) == ("red", [0, 1, 2])
    hidden = predicted(client, xml_string=grouped, wrist_camera="", render={"geom_groups": [2, 0]})
    assert hidden["geom_groups"] == [0, 2]
    for groups in ([], [6], [-1], [1.5], "all"):
        refused(client, "invalid_request", xml_string=grouped, render={"geom_groups": groups})

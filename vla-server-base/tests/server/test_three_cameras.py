"""A policy whose cameras are called left, top and wrist_left, asked on every route by its own names."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy
from PIL import Image

from vla_client import Policy
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

CAMERAS = ("left", "top", "wrist_left")
RED, GREY, WHITE = of_one_colour(255, 0, 0), of_one_colour(51, 51, 51), of_one_colour(255, 255, 255)
SEEN = {"left": RED, "top": GREY, "wrist_left": WHITE}
SAW = [1.0, 0.0, 0.0, pytest.approx(0.2 + 2 * 1.0)]
SCENE = """<mujoco><worldbody><light pos="0 0 2"/><geom type="plane" size="1 1 .1"/>
  <camera name="far" pos="0 0 3"/><camera name="top" pos="0 0 2"/><camera name="hand" pos="0 0 1"/>
</worldbody></mujoco>"""


class ThreeCameras(EchoAdapter):
    cameras = CAMERAS


@pytest.fixture(scope="module")
def url():
    with serving(echo_app(ThreeCameras(), observation_keys="left=cam_0 wrist_left=images.hand")) as url:
        wait_until_healthy(url)
        yield url


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def answered(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    return response.json()


def asked(client: httpx.Client, path: str = "/predict", **body) -> dict:
    return answered(client.post(path, json={"instruction": "go", "seed": 1, **body}))


def refused(client: httpx.Client, path: str = "/predict", **body) -> dict:
    response = client.post(path, json={"instruction": "go", "seed": 1, **body})
    assert response.status_code == 422, response.text
    return response.json()["error"]


def test_pictures_go_to_the_cameras_that_they_are_named_by(client):
    reply = asked(client, images=SEEN, return_image=True)
    assert reply["action"][:4] == SAW
    assert list(reply["images"]) == list(CAMERAS)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(reply["images"]["top"]))))
    assert shown[0, 0].tolist() == [51, 51, 51]


def test_image_is_short_for_the_first_camera_s(client):
    others = {name: SEEN[name] for name in ("top", "wrist_left")}
    assert asked(client, image=RED, images=others)["action"][:4] == SAW


def test_pictures_as_files_are_parts_of_these_names(client):
    files = {f"images.{name}": (f"{name}.png", base64.b64decode(picture)) for name, picture in SEEN.items()}
    reply = answered(client.post("/predict", data={"instruction": "go"}, files=files))
    assert reply["action"][:4] == SAW


def test_what_was_seen_before_and_goals_have_the_same_names(client):
    assert asked(client, images=SEEN, history=[{"images": {"left": RED}}])["action"][5] == 2.0
    goal = asked(client, images=SEEN, instruction="", goal_images={"top": WHITE})
    assert goal["action"][4] == pytest.approx(2 + 1)


def test_a_session_s_turn_has_the_same_names(client):
    steps = [asked(client, images=SEEN, session_id="arm")["session"]["step"] for _ in range(2)]
    assert steps == [0, 1]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"images": {"primary": RED}}, "images.primary: this policy has no camera 'primary'"),
        (
            {"images": SEEN, "history": [{"images": {"l": RED}}]},
            "history.0.images.l: this policy has no camera 'l'",
        ),
        ({"image": RED, "image_wrist": RED}, "image_wrist: this policy has no camera 'wrist'"),
        ({"images": SEEN, "goal_images": {"up": RED}}, "goal_images.up: this policy has no camera 'up'"),
    ],
)
def test_a_camera_that_the_policy_lacks_is_refused_with_those_that_it_has(client, body, says):
    error = refused(client, **body)
    assert (error["code"], error["message"]) == ("image", says)
    assert error["hint"] == "it has: left, top, wrist_left"


def test_two_pictures_of_one_camera_are_refused(client):
    assert "image and images.left are both of the camera 'left'" in refused(client, image=RED, images=SEEN)["message"]


def test_a_scene_s_cameras_are_those_of_the_same_names_or_as_chosen(client):
    assert asked(client, xml_string=SCENE)["cameras"] == {"left": "far", "top": "top"}
    chosen = {"left": "top", "top": "far", "wrist_left": "hand"}
    assert asked(client, xml_string=SCENE, cameras=chosen)["cameras"] == chosen
    assert asked(client, xml_string=SCENE, camera="hand", cameras={"top": ""})["cameras"] == {"left": "hand"}


def test_a_scene_s_camera_for_none_of_the_policy_s_is_refused(client):
    assert refused(client, xml_string=SCENE, cameras={"primary": "top"})["hint"] == "available: left, top, wrist_left"
    assert refused(client, xml_string=SCENE, cameras={"left": "lft"})["hint"] == "available: far, hand, top"
    assert "two of the scene's" in refused(client, xml_string=SCENE, camera="top", cameras={"left": "far"})["message"]
    assert "needs an image" in refused(client, xml_string=SCENE, cameras={"left": ""})["message"]


def test_an_episode_is_seen_through_them(client):
    body = {
        "instruction": "go",
        "xml_string": bundled_scene("panda", "tabletop"),
        "cameras": {"top": "primary", "wrist_left": "wrist"},
        "max_steps": 1,
        "frames": "jpeg",
        "record": ["webp"],
    }
    response = client.post("/execute", json=body, headers={"Accept": "text/event-stream"})
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    assert events[0]["cameras"] == {"left": "primary", "top": "primary", "wrist_left": "wrist"}
    assert list(events[1]["images"]) == list(CAMERAS)
    assert events[-1]["recordings"]["webp"]


def test_sockets_know_the_policy_s_names_and_the_lab_s(url):
    pictures = {name: np.full((8, 8, 3), colour, np.uint8) for name, colour in zip(CAMERAS, (255, 51, 0), strict=True)}
    with Policy(url.replace("http", "ws", 1)) as policy:
        assert policy.metadata.camera_names == CAMERAS
        assert policy.act(pictures, "go")[3] == pytest.approx(0.2)
        policy.reset()
        named = {"cam_0": pictures["left"], "top": pictures["top"], "hand": pictures["top"], "instruction": "go"}
        assert policy.infer(named)["actions"][0][3] == pytest.approx(0.2 + 2 * 0.2)


def test_what_is_said_of_the_model_names_them(client):
    inputs = [tensor["name"] for tensor in answered(client.get("/v2/models/echo"))["inputs"]]
    assert inputs[:3] == ["image_left", "image_top", "image_wrist_left"]
    assert [camera["name"] for camera in answered(client.get("/info"))["policy"]["cameras"]] == list(CAMERAS)

"""Pictures as files, as curl sends them: the same answers and refusals as in JSON."""

import base64
import json
import subprocess

import pytest
from echo_server import encoded, of_one_colour
from PIL import Image

RED, BLUE = of_one_colour(255, 0, 0), of_one_colour(0, 0, 255)


def files(**parts: str) -> dict:
    return {name: (f"{name}.png", base64.b64decode(picture)) for name, picture in parts.items()}


def answered(response) -> dict:
    assert response.status_code == 200, response.text
    return {key: value for key, value in response.json().items() if key not in ("request_id", "timing_ms")}


def test_pictures_as_files_are_answered_as_in_json(client):
    fields = {"instruction": "go", "seed": "3", "return_image": "true", "proprio": "[1, 2, 3]"}
    as_files = client.post("/predict", data=fields, files=files(image=RED, image_wrist=BLUE))
    in_json = {"instruction": "go", "seed": 3, "return_image": True, "proprio": [1, 2, 3]}
    assert answered(as_files) == answered(client.post("/predict", json={**in_json, "image": RED, "image_wrist": BLUE}))


def test_curl_sends_a_photo(url, tmp_path):
    for name, picture in (("photo.png", RED), ("wrist.png", BLUE)):
        (tmp_path / name).write_bytes(base64.b64decode(picture))
    command = ["curl", "-s", f"{url}/predict", "-F", "image=@photo.png", "-F", "image_wrist=@wrist.png"]
    command += ["-F", "instruction=pick up the red cube", "-F", "seed=0"]
    answer = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)
    assert answer["action"][:3] == [1.0, 0.0, 0.0]


def test_a_text_field_stays_text_whatever_it_looks_like(client):
    reply = client.post("/predict", data={"instruction": "42", "session_id": "7"}, files=files(image=RED))
    assert answered(reply)["session"]["id"] == "7"


def test_fields_may_be_parts_beside_a_request_in_json(client):
    parts = {"request": '{"seed": 3}', "instruction": "go"}
    assert answered(client.post("/predict", data=parts, files=files(image=RED)))["seed"] == 3


@pytest.mark.parametrize(
    ("data", "parts", "code", "says"),
    [
        ({"instruction": "go"}, {"image": b"no picture"}, "image", "image"),
        ({"instruction": "go"}, {"image_wrist": base64.b64decode(RED)}, "image", "no image of the camera 'primary'"),
        ({"instruction": "go"}, {"picture": b""}, "invalid_request", "unknown part 'picture'"),
        ({"instruction": "go", "sead": "1"}, {"image": b""}, "invalid_request", "unknown field 'sead'"),
        ({"instruction": "go", "seed": "many"}, {"image": b""}, "invalid_request", "seed: Input should be"),
        ({"instruction": "go", "request": '{"instruction": "stop"}'}, {"image": b""}, "invalid_request", "given twice"),
        ({"instruction": "go", "request": "[]"}, {"image": b""}, "invalid_request", "Input should be an object"),
    ],
)
def test_what_is_wrong_with_the_parts_is_told(client, data, parts, code, says):
    sent = {name: (f"{name}.png", content) for name, content in parts.items()}
    response = client.post("/predict", data=data, files=sent)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == code
    assert says in response.json()["error"]["message"]


def test_an_episode_is_asked_for_field_by_field(client):
    xml = client.get("/scenes/panda/tabletop").text
    parts = {"instruction": "go", "xml": xml, "max_steps": "1", "robot": "panda", "seed": "0"}
    response = client.post("/execute", files={name: (None, text) for name, text in parts.items()})
    assert len(answered(response)["actions"]) == 1


@pytest.mark.parametrize("size", [(1, 90_000), (90_000, 1), (16_385, 2)])
def test_a_picture_of_a_very_long_side_is_refused_before_it_is_decoded(client, size):
    thin = encoded(Image.new("1", size))
    assert len(thin) < 1000
    response = client.post("/predict", json={"instruction": "go", "image": thin})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "image")
    assert "the limit is 16384 a side" in response.json()["error"]["message"]

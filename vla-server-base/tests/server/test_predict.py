"""POST /predict with pictures: what comes back for what is sent."""

import base64
import io
from dataclasses import replace

import httpx
import numpy as np
import pytest
from echo_server import echo_app, encoded, of_one_colour, wait_until_loaded
from PIL import Image

from vla_server_base.contract import PolicySpec
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.echo import instruction_number, noise

RED = of_one_colour(255, 0, 0)


def predicted(client: httpx.Client, **body) -> dict:
    response = client.post("/predict", json={"instruction": "go", "image": RED, "seed": 1, **body})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_picture_and_an_instruction_give_an_action(client):
    reply = predicted(client, seed=7)
    expected = [1.0, 0.0, 0.0, 0.0, instruction_number("go"), 1.0, noise(7)]
    np.testing.assert_allclose(reply["action"], [*expected, noise(7)])
    np.testing.assert_allclose(reply["actions"], np.outer([1, 2, 3, 4], expected))
    assert reply["action_format"] == "standard"
    names = ["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"]
    assert reply["action_names"] == [*names, "gripper"]
    assert (reply["dataset"], reply["seed"], reply["model"]) == ("echo", 7, "echo")
    assert (reply["weights"], reply["cameras"]) == ("none", {})
    assert set(reply["timing_ms"]) == {"compile", "render", "preview", "queue", "infer", "write", "total"}
    assert reply["timing_ms"]["total"] >= reply["timing_ms"]["infer"] > 0
    assert reply["request_id"]
    assert "samples" not in reply
    assert "images" not in reply


def test_the_window_begins_with_the_first_observation_repeated_and_masked(client):
    assert predicted(client)["action"][5] == 1.0  # the echo counts timesteps that are not padding


def test_a_seed_that_is_left_out_is_drawn_and_returned(client):
    one, other = (predicted(client, seed=None) for _ in range(2))
    assert one["seed"] != other["seed"]
    assert one["action"][6] == noise(one["seed"])
    assert predicted(client, seed=one["seed"])["actions"] == one["actions"]


def test_a_wrist_picture_goes_to_the_wrist_camera(client):
    assert predicted(client, image_wrist=of_one_colour(51, 51, 51))["action"][3] == pytest.approx(0.2)


def test_a_goal_picture_takes_the_place_of_an_instruction_or_joins_it(client):
    white = of_one_colour(255, 255, 255)
    assert predicted(client, instruction="", goal_image=white)["action"][4] == pytest.approx(2.0)
    assert predicted(client, goal_image=white)["action"][4] == pytest.approx(2.0 + instruction_number("go"))
    assert predicted(client, goal_image=white, goal_image_wrist=white)["action"][4] > 2.0


def test_proprio_reaches_the_policy(client):
    assert predicted(client, proprio=[0.5, 1, 0])["action"][5] == pytest.approx(2.5)


def test_a_dataset_un_normalizes(client):
    reply = predicted(client, dataset="echo_doubled")
    assert reply["dataset"] == "echo_doubled"
    assert reply["action"][:2] == [3.0, 1.0]


def test_ee_delta_is_the_seven_numbers(client):
    reply = predicted(client, action_format="ee_delta")
    assert reply["action"] == reply["actions"][0]
    assert len(reply["action"]) == len(reply["action_names"]) == 7


def test_samples_are_all_chunks_un_normalized_and_the_first_is_the_action(client):
    reply = predicted(client, num_samples=3, dataset="echo_doubled")
    assert len(reply["samples"]) == 3
    assert reply["samples"][0] == reply["actions"] == predicted(client, dataset="echo_doubled")["actions"]
    assert reply["samples"][1][0][6] == noise(1, 0, 1)


def test_images_come_back_as_the_cameras_saw_them(client):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    images = predicted(client, image=encoded(pixels), return_image=True)["images"]
    assert set(images) == {"primary"}
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(images["primary"]))), pixels)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_the_usual_picture_formats_are_read(client, file_format):
    picture = encoded(np.full((16, 16, 3), 102), file_format)
    np.testing.assert_allclose(predicted(client, image=picture)["action"][:3], 0.4, atol=0.01)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "PA", "1", "CMYK"])
def test_every_kind_of_pixel_becomes_rgb(client, mode):
    picture = Image.new("RGB", (8, 8), "white").convert("RGBA" if mode == "PA" else mode)
    file_format = "JPEG" if mode == "CMYK" else "PNG"
    transparency = {"transparency": b"\x80" * 4} if mode == "P" else {}
    reply = predicted(client, image=encoded(picture, file_format, **transparency))
    np.testing.assert_allclose(reply["action"][:3], 1.0, atol=0.02)


def test_a_data_url_and_base64_in_lines_are_read(client):
    lines = "\n".join(RED[i : i + 20] for i in range(0, len(RED), 20))
    for form in (f"data:image/png;base64,{RED}", lines):
        assert predicted(client, image=form)["action"][:3] == [1.0, 0.0, 0.0]


def test_a_picture_is_turned_upright_as_its_exif_says(client):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side
    picture = Image.new("RGB", (10, 20))
    images = predicted(client, image=encoded(picture, "PNG", exif=exif), return_image=True)["images"]
    assert Image.open(io.BytesIO(base64.b64decode(images["primary"]))).size == (20, 10)


def test_a_json_content_type_may_name_its_charset(client):
    response = client.post(
        "/predict",
        content=b'{"instruction": "go", "image": "' + RED.encode() + b'"}',
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert response.status_code == 200


def test_datasets_and_instructions_that_others_have_names_for_are_known_and_told():
    only = replace(EchoAdapter().spec, datasets=("bridge_dataset",), default_dataset="bridge_dataset")

    class Bridge(EchoAdapter):
        @property
        def spec(self) -> PolicySpec:
            return only

        def un_normalize(self, chunk, dataset):
            assert dataset == "bridge_dataset"
            return super().un_normalize(chunk, "echo")

    with serving(echo_app(Bridge(), default_instruction="wipe the table")) as url, httpx.Client(base_url=url) as client:
        wait_until_loaded(url)
        reply = predicted(client, dataset="bridge_orig", instruction="")
        turn = predicted(client, dataset="bridge_orig", session_id="arm")
    assert reply["dataset"] == turn["dataset"] == "bridge_dataset"
    assert reply["action"][4] == instruction_number("wipe the table")
    assert reply["notes"] == [
        "the request has no instruction; the server's default is used: 'wipe the table'",
        "dataset 'bridge_orig' is 'bridge_dataset' here",
    ]


def test_null_means_left_out(client):
    nothing = {"camera": None, "wrist_camera": None, "goal_image": None, "dataset": None, "seed": None}
    reply = client.post("/predict", json={"instruction": "go", "image": RED, **nothing})
    assert reply.status_code == 200, reply.text

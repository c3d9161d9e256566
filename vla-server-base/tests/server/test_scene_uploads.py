"""Scenes and their files on every way in: JSON, multipart, a zip; and what was sent before, by its hash."""

import base64
import hashlib
import io
import json
import logging
import zipfile

import httpx
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy
from test_scenes import TEXTURED, TWO_VIEWS, predicted, refused, strongest

from vla_server_base.scenes.messages import Scene
from vla_server_base.server.uvicorn_server import serving

BLUE = base64.b64decode(of_one_colour(0, 0, 255))
GREEN = base64.b64decode(of_one_colour(0, 255, 0))
SCENE = TEXTURED.format(file="floor.png")
ASK = {"instruction": "go", "seed": 0, "return_image": True}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.put(f"/assets/{sha256(content)}", content=content)


def zipped(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def send(client: httpx.Client, *parts: tuple[str, str | None, str | bytes], **body) -> httpx.Response:
    """POST multipart: the request's JSON, and parts of (name, file name, content)."""
    request = ("request", (None, json.dumps(ASK | body), "application/json"))
    return client.post("/predict", files=[request, *((name, (file, content)) for name, file, content in parts)])


def answered(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    return response.json()


def error_of(response: httpx.Response) -> dict:
    assert response.status_code == 422, response.text
    return response.json()["error"]


# Files by their hash.


def test_a_file_is_held_once_it_was_put_and_a_client_can_ask_before(client):
    content = b"once put, then held"
    path = f"/assets/{sha256(content)}"
    assert client.head(path).status_code == 404
    first, second = put(client, content), put(client, content)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == {"sha256": sha256(content), "num_bytes": len(content)}
    assert client.head(path).status_code == 200


def test_a_scene_names_a_file_by_its_hash(client):
    put(client, BLUE)
    reply = predicted(client, xml_string=SCENE, assets={"floor.png": {"sha256": sha256(BLUE)}})
    assert strongest(reply, "primary") == "blue"


def test_a_hash_that_is_not_held_is_told_with_what_to_do(client):
    absent = sha256(b"never put")
    error = refused(client, "scene_missing_asset", xml_string=SCENE, assets={"floor.png": {"sha256": absent}})
    assert "'floor.png'" in error["message"]
    assert f"PUT /assets/{absent}" in error["hint"]


@pytest.mark.parametrize("name", [sha256(b"something else"), "floor.png", sha256(BLUE).upper()])
def test_bytes_that_are_not_what_the_address_says_are_refused_and_not_held(client, name):
    response = client.put(f"/assets/{name}", content=BLUE)
    assert error_of(response)["code"] == "asset_mismatch"
    assert sha256(BLUE) in error_of(response)["message"]
    assert client.head(f"/assets/{name}").status_code == 404


def test_a_file_over_the_limit_is_refused_while_it_comes(client):
    response = client.put(f"/assets/{sha256(b'')}", content=iter([bytes(2**17)] * 9))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("given", [5, {"sha256": 5}, {"sha1": ""}, {}])
def test_what_is_neither_base64_nor_a_hash_is_refused(client, given):
    assert (
        "assets.floor.png"
        in refused(client, "invalid_request", xml_string=SCENE, assets={"floor.png": given})["message"]
    )


# Scenes of several files.


PARTS = {
    "xml/scene.xml": '<mujoco><compiler texturedir="../textures"/><include file="world.xml"/></mujoco>',
    "xml/world.xml": SCENE.replace("floor.png", "floor #1.png"),
    "textures/floor #1.png": BLUE,
    "other/scene.xml": "<mujoco><worldbody/></mujoco>",
}


def test_a_folder_of_several_models_is_sent_as_it_lies_and_the_scene_named(client):
    packed = zipped(PARTS)
    reply = answered(send(client, ("scene", "assets.zip", packed), scene_file="xml/scene.xml"))
    assert strongest(reply, "primary") == "blue"
    error = error_of(send(client, ("scene", "assets.zip", packed)))
    assert "other/scene.xml, xml/scene.xml" in error["message"]
    assert "scene_file" in error["hint"]


def test_json_brings_the_files_that_its_scene_includes(client):
    files = {
        "C:\\scenes\\world.xml": base64.b64encode(PARTS["xml/world.xml"].encode()).decode(),
        "/Users/ann/textures/floor #1.png": base64.b64encode(BLUE).decode(),
    }
    reply = predicted(client, xml_string=PARTS["xml/scene.xml"], assets=files)
    assert strongest(reply, "primary") == "blue"


def test_a_file_of_a_zip_is_not_named_where_there_is_none(client):
    error = refused(client, "invalid_request", xml_string=SCENE, scene_file="scene.xml")
    assert "it names a file of the zip" in error["message"]


# Scenes by their hash.


def test_a_scene_that_was_answered_is_named_by_its_id_and_not_compiled_again(client):
    put(client, BLUE)
    first = predicted(client, xml_string=SCENE, assets={"floor.png": {"sha256": sha256(BLUE)}})
    again = predicted(client, scene_id=first["scene_id"])
    assert again["scene_id"] == first["scene_id"] == Scene(xml=SCENE, assets={"floor.png": BLUE}).key
    assert again["images"] == first["images"]
    assert again["timing_ms"]["compile"] == 0.0


def test_only_the_state_follows(client):
    scene_id = predicted(client, xml_string=TWO_VIEWS)["scene_id"]
    assert strongest(predicted(client, scene_id=scene_id), "primary") == "red"
    assert strongest(predicted(client, scene_id=scene_id, state={"qpos": [-8.8]}), "primary") == "green"
    assert predicted(client, scene_id=scene_id, camera="wrist", wrist_camera="")["cameras"] == {"primary": "wrist"}


@pytest.mark.parametrize("scene_id", ["0" * 64, "", "../../etc/passwd"])
def test_an_unknown_scene_id_is_told_without_naming_others(client, scene_id):
    known = predicted(client, xml_string=TWO_VIEWS)["scene_id"]
    error = refused(client, "unknown_scene_id", scene_id=scene_id)
    assert "send the scene again" in error["hint"]
    assert known not in json.dumps(error)


def test_a_scene_that_was_refused_is_not_remembered(client):
    broken = Scene(xml="<mujoco><worldbody><geom/></worldbody></mujoco>")
    refused(client, "scene_invalid", xml_string=broken.xml)
    refused(client, "unknown_scene_id", scene_id=broken.key)


def test_a_picture_has_no_scene_id(client):
    assert "scene_id" not in answered(client.post("/predict", json=ASK | {"image": of_one_colour(1, 2, 3)}))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"scene_id": "0", "xml_string": "<mujoco/>"}, "got xml_string and scene_id"),
        ({"scene_id": "0", "image": of_one_colour(1, 2, 3)}, "got scene_id and image"),
        ({"scene_id": "0", "assets": {"a.png": ""}}, "assets cannot be combined with scene_id"),
        ({"image": of_one_colour(1, 2, 3), "assets": {"a.png": ""}}, "assets cannot be combined with image"),
    ],
)
def test_a_scene_is_said_in_one_way(client, body, said):
    assert said in refused(client, "invalid_request", **body)["message"]


def test_small_stores_forget_the_oldest():
    app = echo_app(renderer="raycast", asset_store_mb=1, scene_store_mb=1)
    with serving(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        halves = [bytes([number]) * 600_000 for number in range(2)]
        ids = [
            predicted(client, xml_string=TWO_VIEWS, assets={"unused": {"sha256": put(client, half).json()["sha256"]}})
            for half in halves
        ]
        assert [client.head(f"/assets/{sha256(half)}").status_code for half in halves] == [404, 200]
        refused(client, "unknown_scene_id", scene_id=ids[0]["scene_id"])
        assert predicted(client, scene_id=ids[1]["scene_id"])["action"]
        too_large = client.put(f"/assets/{sha256(b'')}", content=bytes(2**20 + 1))
        assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "body_too_large")


# Multipart.


@pytest.mark.parametrize("file", [None, "scene.xml"])
def test_a_scene_comes_as_a_part_with_its_files_beside_it(client, file):
    reply = answered(send(client, ("xml", file, SCENE), ("assets", "floor.png", BLUE)))
    assert strongest(reply, "primary") == "blue"
    assert answered(send(client, scene_id=reply["scene_id"]))["images"] == reply["images"]


def test_a_scene_in_json_takes_files_beside_it(client):
    folders = TEXTURED.format(file="textures/floor.png")
    reply = answered(send(client, ("assets", "textures/floor.png", GREEN), xml_string=folders))
    assert strongest(reply, "primary") == "green"


def test_files_of_one_scene_come_on_all_ways_at_once(client):
    put(client, GREEN)
    assets = {"unused.png": base64.b64encode(b"x").decode(), "floor.png": {"sha256": sha256(GREEN)}}
    reply = answered(send(client, ("xml", None, SCENE), ("assets", "other.png", BLUE), assets=assets))
    assert strongest(reply, "primary") == "green"


def test_a_zipped_folder_is_a_scene(client):
    scene = SCENE.replace("<asset>", '<compiler texturedir="textures"/><asset>')
    packed = zipped({"room/scene.xml": scene, "room/textures/floor.png": BLUE, "room/README.md": "a room"})
    reply = answered(send(client, ("scene", "room.zip", packed)))
    assert strongest(reply, "primary") == "blue"


def test_a_picture_may_be_sent_as_multipart_too(client):
    assert answered(send(client, image=of_one_colour(1, 2, 3)))["cameras"] == {}


@pytest.mark.parametrize(
    ("parts", "body", "code", "said"),
    [
        (
            [("xml", None, "<mujoco/>"), ("scene", "a.zip", b"")],
            {},
            "invalid_request",
            "part 'xml' and the part 'scene'",
        ),
        (
            [("xml", None, "<mujoco/>")],
            {"xml_string": ""},
            "invalid_request",
            "got xml_string and the part 'xml'",
        ),
        ([("assets", "a.png", b"")], {"image": ""}, "invalid_request", "assets cannot be combined with image"),
        ([], {}, "invalid_request", "got none"),
        ([("mesh", "a.obj", b"")], {}, "invalid_request", "unknown part 'mesh'"),
        (2 * [("assets", "a.obj", b"")], {}, "invalid_request", "'a.obj' is given twice"),
        ([("xml", None, SCENE), ("assets", "a.png", b"")], {"assets": {"a.png": ""}}, "invalid_request", "given twice"),
        ([("xml", "m.mjb", b"\x31\xd4\0\0\0")], {}, "scene_refused", "MJB is not supported"),
        ([("scene", "m.mjb", b"\x31\xd4\0\0\0")], {}, "scene_refused", "MJB is not supported"),
        ([("scene", "a.zip", b"PK")], {}, "scene_invalid", "cannot be read"),
        ([("scene", "a.zip", zipped({"../a.xml": ""}))], {}, "scene_refused", "is not a path inside it"),
        ([("scene", "a.zip", zipped({"a.xml": SCENE}))], {}, "scene_missing_asset", "'floor.png'"),
    ],
)
def test_parts_that_make_no_scene_are_refused_with_the_reason(client, parts, body, code, said):
    error = error_of(send(client, *parts, **body))
    assert (error["code"], said in error["message"]) == (code, True), error


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{}", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n{}', "multipart/form-data; boundary=x"),
    ],
)
def test_a_broken_multipart_body_is_refused(client, content, content_type):
    response = client.post("/predict", content=content, headers={"Content-Type": content_type})
    assert error_of(response)["code"] == "invalid_request"


def test_a_multipart_body_over_the_limit_is_refused(client):
    response = send(client, ("xml", None, SCENE), ("assets", "large.png", bytes(2**20)))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")


def test_a_bare_zip_is_told_how_to_come(client):
    response = client.post("/predict", content=b"PK", headers={"Content-Type": "application/zip"})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media")
    assert "multipart/form-data" in response.json()["error"]["hint"]


def test_no_scene_is_ever_logged_but_what_a_refusal_quotes_of_it(client, caplog):
    with caplog.at_level(logging.DEBUG):
        for xml in (
            "<mujoco model='secret'/>",
            "<mujoco><worldbody><body name='secret'>",
            TWO_VIEWS.replace("<mujoco", "<mujoco model='secret'"),
        ):
            send(client, ("xml", "secret.xml", xml))
            client.post("/predict", json={"instruction": "go", "xml_string": xml})
    assert "/predict" in caplog.text
    assert "secret" not in caplog.text

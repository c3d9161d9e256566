"""What a client can get wrong over HTTP, and what it is told."""

import base64
import contextlib
import dataclasses
import http.client
import json
import socket
import struct
import zlib

import httpx
import numpy as np
import pytest
from echo_server import echo_app, encoded, of_one_colour, wait_until, wait_until_loaded
from PIL import Image

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter

RED = of_one_colour(255, 0, 0)


def refused(client: httpx.Client, status: int, code: str, **body) -> dict:
    """Post a request with something wrong in it; a field of None is left out."""
    fields = {"instruction": "go", "image": RED, **body}
    response = client.post("/predict", json={name: value for name, value in fields.items() if value is not None})
    return error_of(response, status, code)


def error_of(response: httpx.Response, status: int, code: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"code", "message", "hint"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["error"]["code"] == code
    assert "Traceback" not in response.text
    return body["error"]


def huge_png(width: int, height: int) -> str:
    """A PNG whose head announces far more pixels than its few bytes hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


@pytest.mark.parametrize("instruction", ["", "  \n", None])
def test_an_empty_instruction_is_refused(client, instruction):
    assert "empty" in refused(client, 422, "instruction", instruction=instruction)["message"]


def test_a_very_long_instruction_is_refused_with_the_limit(client):
    assert "the limit is 1000" in refused(client, 422, "instruction", instruction="x" * 1001)["message"]


def test_an_unknown_dataset_or_format_is_refused_with_the_known(client):
    error = refused(client, 422, "unknown_dataset", dataset="bridge")
    assert "'bridge'" in error["message"]
    assert "echo, echo_doubled" in error["hint"]
    error = refused(client, 422, "unknown_action_format", action_format="joints")
    assert "ee_delta, joint_position, standard" in error["hint"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"image": None}, "expected exactly one of xml_string, scene_id, image (or images), got none"),
        (
            {"xml_string": "<mujoco/>"},
            "expected exactly one of xml_string, scene_id, image (or images), got xml_string and image",
        ),
        ({"state": {}, "camera": "top"}, "camera, state can only be given together with a scene"),
        (
            {"image": None, "xml_string": "<mujoco/>", "image_wrist": RED},
            "got xml_string and image_wrist",
        ),
        ({"history": [{"proprio": [1, 2, 3]}]}, "history.0: none of image, image_wrist, images is given"),
        ({"history": [{"image": RED, "proprio": [1]}]}, "history.0.proprio: expected 3 numbers, got 1"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"seed": 2**32}, "seed: Input should be less than 4294967296"),
        ({"seed": "1"}, "seed: Input should be a valid integer"),
        ({"num_samples": 0}, "num_samples: Input should be greater than or equal to 1"),
        ({"num_samples": 65}, "num_samples: 65 is over this server's limit of 64"),
        ({"proprio": [1, 2]}, "proprio: expected 3 numbers, got 2"),
        ({"proprio": [1, -1e300, 3]}, "proprio.1: expected a number of at most 1e+09 in size, got -1e+300"),
        (
            {"history": [{"image": RED, "proprio": [1, 2, 1e30]}]},
            "history.0.proprio.2: expected a number of at most 1e+09 in size, got 1e+30",
        ),
        ({"instruction": 5}, "instruction: Input should be a valid string"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_what_is_expected(client, body, message):
    assert message in refused(client, 422, "invalid_request", **body)["message"]


def test_unknown_fields_are_refused_by_name_with_the_known(client):
    error = refused(client, 422, "invalid_request", img=RED, instrution="go")
    assert "unknown field 'img'; unknown field 'instrution'" in error["message"]
    assert "xml_string, scene_id" in error["hint"]
    state = {"qpose": [0]}
    error = refused(client, 422, "invalid_request", image=None, xml_string="<mujoco/>", state=state)
    assert "unknown field 'state.qpose'" in error["message"]
    assert "qpos, qvel, ctrl" in error["hint"]


def test_many_or_huge_problems_are_told_briefly(client):
    error = refused(client, 422, "invalid_request", **{f"f{i}" + "x" * 10_000: 0 for i in range(20)})
    assert "and 15 more" in error["message"]
    assert len(error["message"]) < 1000
    assert len(refused(client, 422, "unknown_dataset", dataset="x" * 100_000)["message"]) < 200


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b"[]", "object"),
        (
            b'{"instruction": "go", "image": "", "proprio": [NaN, 1, 1]}',
            "proprio.0: Input should be a finite",
        ),
        (
            b'{"instruction": "go", "image": "", "proprio": [1e999, 1, 1]}',
            "proprio.0: Input should be a finite",
        ),
    ],
)
def test_a_body_that_is_not_json_for_a_request_is_refused(client, raw, message):
    response = client.post("/predict", content=raw, headers={"Content-Type": "application/json"})
    assert message in error_of(response, 422, "invalid_request")["message"]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("***", "image is not base64"),
        ("", "image cannot be decoded (0 bytes)"),
        (base64.b64encode(b"plain text").decode(), "image cannot be decoded (10 bytes)"),
        (RED[:60], "image cannot be decoded (45 bytes)"),
        (encoded(np.zeros((8, 8, 3)), "BMP"), "image cannot be decoded"),
        (encoded(np.zeros((8, 8, 3)), "GIF"), "image cannot be decoded"),
        (encoded(np.zeros((400, 300, 3))), "image has 300x400 pixels; the limit is 100000"),
        (huge_png(11_000, 11_000), "the limit is 100000"),
        (huge_png(60_000, 60_000), "the limit is 100000"),
        (huge_png(100, 100), "image cannot be decoded"),
    ],
)
def test_a_picture_that_cannot_be_taken_is_refused(client, picture, message):
    assert message in refused(client, 422, "image", image=picture)["message"]


def test_the_picture_at_fault_is_named(client):
    assert "goal_image " in refused(client, 422, "image", goal_image="***")["message"]
    assert "image_wrist " in refused(client, 422, "image", image_wrist="***")["message"]


def test_a_picture_of_16_bits_is_refused_rather_than_clipped(client):
    depth = encoded(Image.fromarray(np.full((8, 8), 40_000, np.uint16)))
    assert "8 bits" in refused(client, 422, "image", image=depth)["message"]


def test_nothing_lies_at_an_unknown_address(client):
    assert "/docs" in error_of(client.get("/nowhere"), 404, "not_found")["hint"]
    assert error_of(client.get("/health/"), 404, "not_found")


def test_a_wrong_method_is_told_the_right_one(client):
    response = client.get("/predict")
    assert error_of(response, 405, "method_not_allowed")["hint"] == "it accepts: POST"
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_only_plain_json_is_read(client, headers):
    response = client.post("/predict", content=b'{"instruction": "go"}', headers=headers)
    error_of(response, 415, "unsupported_media")


def test_a_body_over_the_limit_is_refused_by_its_announced_length(client):
    response = client.post("/predict", json={"instruction": "go", "image": "x" * 2**20})
    assert "1048576" in error_of(response, 413, "body_too_large")["message"]


def head(url: str, *headers: str) -> bytes:
    lines = ("POST /predict HTTP/1.1", f"Host: {httpx.URL(url).host}", "Content-Type: application/json", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_client_is_answered_once_its_body_is_sent_even_where_nobody_wants_it(url):
    # More than the sockets between hold: a client that writes before it reads would find the connection reset.
    body = bytes(12 * 2**20)
    for headers in ({}, {"Connection": "close"}, {"Content-Type": "text/plain"}, {"Transfer-Encoding": "chunked"}):
        with contextlib.closing(http.client.HTTPConnection(httpx.URL(url).netloc.decode(), timeout=30)) as connection:
            chunked = "Transfer-Encoding" in headers
            headers = {"Content-Type": "application/json", **headers}
            connection.request("POST", "/predict", iter([body]) if chunked else body, headers, encode_chunked=chunked)
            answer = connection.getresponse()
            assert answer.status == (415 if headers["Content-Type"] == "text/plain" else 413)
            assert answer.read().startswith(b'{"error":')
            if "Connection" not in headers:
                connection.request("GET", "/live")
                assert connection.getresponse().status == 200


def test_a_client_that_asks_first_is_spared_sending_a_body_in_vain(url):
    with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80), timeout=5) as connection:
        connection.sendall(head(url, f"Content-Length: {2**30}", "Expect: 100-continue"))
        answer = b"".join(iter(lambda: connection.recv(2**16), b""))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


def test_a_body_that_never_ends_is_answered_and_hung_up_on(url, monkeypatch):
    monkeypatch.setattr("vla_server_base.server.middleware._DRAIN_S", 0.5)
    with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80), timeout=30) as connection:
        connection.sendall(head(url, "Transfer-Encoding: chunked") + b"100001\r\n" + bytes(2**20 + 1) + b"\r\n")
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413")
        while connection.recv(2**16):
            pass


def test_an_oversized_chunked_body_gets_its_413(client):
    response = client.post("/predict", content=iter([b"x" * 2**17] * 9), headers={"Content-Type": "application/json"})
    error_of(response, 413, "body_too_large")


def test_a_request_id_is_taken_over_or_made(client):
    response = client.post("/predict", json={"instruction": "go", "image": RED}, headers={"X-Request-Id": "lab-7.3"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "lab-7.3"
    ids = {client.get("/live").headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2


def test_a_request_id_is_bounded_and_cleaned(client):
    given = {"X-Request-Id": 'a b"{}' + "c" * 1000}
    assert client.get("/live", headers=given).headers["x-request-id"] == "ab" + "c" * 62
    assert client.get("/live", headers={"X-Request-Id": '"'}).headers["x-request-id"].isalnum()


def test_each_request_is_one_line_in_the_log(client, log_lines):
    client.get("/nowhere%0Aelse", headers={"X-Request-Id": "line-1"})
    wait_until(lambda: log_lines("line-1"))  # the line is written when the answer has left
    (line,) = log_lines("line-1")
    assert line.startswith("method=GET path=/nowhere%0Aelse status=404 ms=")
    assert "\n" not in line


def test_a_policy_without_goals_proprio_or_a_wrist_says_so():
    class Plain(EchoAdapter):
        @property
        def spec(self):
            spec = super().spec
            return dataclasses.replace(spec, takes_goal_images=False, proprio_dim=None, cameras=spec.cameras[:1])

    with serving(echo_app(Plain())) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_loaded(url)
        assert "takes no goal images" in refused(client, 422, "image", goal_image=RED)["message"]
        assert "expected 0 numbers" in refused(client, 422, "invalid_request", proprio=[1])["message"]
        assert "no camera 'wrist'" in refused(client, 422, "image", image_wrist=RED)["message"]
        past = {"image": RED, "image_wrist": RED}
        assert "history.0.image_wrist: this policy" in refused(client, 422, "image", history=[past])["message"]
        error = refused(client, 422, "unknown_camera", image=None, xml_string="<mujoco/>", wrist_camera="hand")
        assert "primary" in error["hint"]


def test_what_goes_wrong_inside_stays_inside(log_lines):
    class Faulty(EchoAdapter):
        def postprocess_action(self, chunk, dataset, action_format):
            raise ZeroDivisionError("secret inner workings")

    with serving(echo_app(Faulty())) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_loaded(url)
        response = client.post(
            "/predict", json={"instruction": "go", "image": RED}, headers={"X-Request-Id": "faulty-1"}
        )
    error = error_of(response, 500, "internal")
    assert "secret" not in json.dumps(error)
    (line,) = log_lines("a request failed request_id=faulty-1")
    assert "secret inner workings" in line

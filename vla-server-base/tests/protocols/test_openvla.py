"""OpenVLA's, AutoEval's, OFT's and the old Octo server's HTTP clients: bodies, then a live server."""

import json
import re

import httpx
import json_numpy
import numpy as np
import pytest
from echo_server import echo_app, wait_until_healthy

from vla_server_base.errors import ProtocolError, RequestError
from vla_server_base.protocols import openvla
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing.echo import noise

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)


def body(**message) -> bytes:
    return json_numpy.dumps({"image": RED, "instruction": "go", **message}).encode()


def encoded(**message) -> bytes:
    return json.dumps({"encoded": body(**message).decode()}).encode()


def queried(**message) -> bytes:
    named = {"dataset_name": "echo", "observation": {"image_primary": RED}, "text": "go", "modality": "l", **message}
    return json.dumps({"use_this": json_numpy.dumps(named)}).encode()


def test_openvla_s_body_is_a_turn(reader):
    request = openvla.read_act(body(unnorm_key="echo", session_id="arm"), reader)
    assert (request.form, request.is_encoded) == ("action", False)
    assert (request.step.task.instruction, request.step.session_id) == ("go", "arm")
    assert request.step.settings == {"dataset": "echo"}


def test_an_encoded_body_is_the_same_turn(reader):
    request = openvla.read_act(encoded(), reader)
    assert request.is_encoded
    np.testing.assert_array_equal(request.step.observation.images["primary"], RED)


def test_oft_s_body_asks_for_the_chunk(reader):
    message = {"full_image": RED, "left_wrist_image": RED, "state": np.zeros(3), "instruction": "go"}
    request = openvla.read_act(json_numpy.dumps(message).encode(), reader)
    assert request.form == "chunk"
    assert set(request.step.observation.images) == {"primary", "wrist"}


def test_a_query_is_a_turn_of_an_ensemble(reader):
    request = openvla.read_query(queried(ensemble=True), reader)
    assert request.is_encoded
    assert request.step.settings == {"execution": "ensemble", "dataset": "echo"}
    assert openvla.read_query(queried(ensemble=False), reader).step.settings == {"dataset": "echo"}


@pytest.mark.parametrize("wrong", [b"", b"[]", b'"x"', json.dumps({"encoded": 3}).encode(), b'{"encoded": "["}'])
def test_what_is_no_body_of_act_is_refused(reader, wrong):
    with pytest.raises(ProtocolError):
        openvla.read_act(wrong, reader)


@pytest.mark.parametrize("wrong", [b"{}", b'{"use_this": 3}', queried(modality="g"), queried(observation=None)])
def test_what_is_no_query_is_refused(reader, wrong):
    with pytest.raises(ProtocolError):
        openvla.read_query(wrong, reader)


def test_a_reset_may_say_nothing(reader):
    assert openvla.read_reset(b"", reader).session_id is None
    assert openvla.read_reset(b"null", reader).seed is None
    assert openvla.read_reset(b'{"session_id": "arm", "seed": 3}', reader).seed == 3
    with pytest.raises(RequestError):
        openvla.read_reset(b'{"seed": "x"}', reader)


@pytest.fixture(scope="module")
def shared_client():
    with serving(echo_app()) as url:
        wait_until_healthy(url)
        with httpx.Client(base_url=url) as client:
            yield client


@pytest.fixture
def robot(shared_client):
    """A client of a server without a session, so that the one of its address is new."""
    yield shared_client
    for session in shared_client.get("/sessions").json()["sessions"]:
        shared_client.delete(f"/sessions/{session['id']}").raise_for_status()


def test_actions_come_in_the_client_s_own_form(robot):
    answered = robot.post("/act", content=body(session_id="a", seed=1))
    assert re.fullmatch(r"(\w+;dur=[\d.]+(, )?){6}", answered.headers["Server-Timing"])
    plain = json_numpy.loads(answered.text)
    twice = json_numpy.loads(robot.post("/act", content=encoded(session_id="b", seed=1)).json())
    chunk = {"full_image": RED, "instruction": "go", "session_id": "c", "seed": 1}
    listed = json_numpy.loads(robot.post("/act", content=json_numpy.dumps(chunk)).text)
    assert plain.shape == (7,)
    np.testing.assert_array_equal(plain, twice)
    assert [row.shape for row in listed] == [(7,)] * 4
    np.testing.assert_array_equal(listed[0], plain)


def test_an_address_is_a_session_until_it_is_reset(robot):
    actions = [json_numpy.loads(robot.post("/act", content=body(seed=3)).text) for _ in range(2)]
    assert robot.post("/reset", json={}).json() == {"status": "reset successful"}
    actions.append(json_numpy.loads(robot.post("/act", content=body()).text))
    np.testing.assert_allclose([action[6] for action in actions], [noise(3, 0), noise(3, 1), noise(3, 0)])


def test_a_reset_may_come_first_and_give_the_seed(robot):
    assert robot.post("/reset", json={"seed": 5}).status_code == 200
    action = json_numpy.loads(robot.post("/query", content=queried(ensemble=True)).json())
    np.testing.assert_allclose(action[6], noise(5, 0))


def test_a_note_for_the_client_is_sent_in_a_header():
    with serving(echo_app(default_instruction="räum auf\n")) as url:
        wait_until_healthy(url)
        answered = httpx.post(f"{url}/act", content=json_numpy.dumps({"image": RED}))
        assert "X-VLA-Note" not in httpx.post(f"{url}/act", content=body(session_id="other")).headers
    assert json_numpy.loads(answered.text).shape == (7,)
    assert answered.headers["X-VLA-Note"].endswith(r"default is used: 'r\xe4um auf\n'")


@pytest.mark.parametrize("picture", [RED.transpose(2, 0, 1), RED / 255, (RED / np.float32(255)).transpose(2, 0, 1)])
def test_a_picture_in_another_form_gets_the_same_answer(robot, picture):
    wanted = robot.post("/act", content=body(session_id="a", seed=1)).text
    assert robot.post("/act", content=body(image=picture, session_id="b", seed=1)).text == wanted


def test_half_a_character_is_refused_and_said(robot):
    for key in ("instruction", "session_id", "\\ud800"):
        answered = robot.post("/act", content=b'{"%b": "\\ud800"}' % key.encode())
        assert (answered.status_code, answered.json()["error"]["code"]) == (422, "protocol")


def test_what_is_wrong_is_said_with_a_status(robot):
    unknown = robot.post("/act", content=body(unnorm_key="bridge_orig"))
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (422, "unknown_dataset")
    assert unknown.json()["error"]["hint"] == "available: echo, echo_doubled"
    assert robot.post("/act", content=b"\xff").json()["error"]["code"] == "protocol"
    assert robot.get("/act").status_code == 405


def act(robot, **message):
    answer = robot.post("/act", content=body(**message))
    return json_numpy.loads(answer.text) if answer.is_success else answer.json()["error"]["message"]


@pytest.mark.parametrize("said", ["go", "stop"])
@pytest.mark.parametrize("settings", [{"unnorm_key": "echo_doubled"}, {"execution": "ensemble", "sequence": 7}])
def test_the_settings_of_one_program_are_not_those_of_the_next_at_its_address(robot, said, settings):
    robot.post("/reset", json={"seed": 1})
    alone = act(robot, instruction=said)
    robot.post("/reset", json={"seed": 1})
    for _ in range(2):
        act(robot, **settings)
    np.testing.assert_array_equal(act(robot, instruction=said), alone)


def test_an_ensemble_of_a_query_is_not_that_of_the_next_program(robot):
    for _ in range(2):
        robot.post("/query", content=queried(ensemble=True))
    act(robot)
    (session,) = robot.get("/sessions").json()["sessions"]
    assert (session["execution"], session["step"]) == ("receding", 1)


def test_a_seed_of_one_program_keeps_no_other_out(robot):
    act(robot, seed=1)
    np.testing.assert_allclose(act(robot, seed=2)[6], noise(2, 0))
    np.testing.assert_allclose(act(robot, seed=2)[6], noise(2, 1))


def test_a_reset_cannot_say_what_each_request_says(robot):
    refused = robot.post("/reset", json={"execution": "ensemble", "dataset": "echo"})
    assert refused.status_code == 422
    assert "execution, dataset: a reset without a session_id cannot set this" in refused.json()["error"]["message"]
    assert robot.post("/reset", json={"execution": "ensemble", "session_id": "arm"}).status_code == 200
    act(robot, session_id="arm")
    assert robot.get("/sessions").json()["sessions"][0]["execution"] == "ensemble"

"""vla-eval's protocol: messages without a socket, then a live server."""

import io
import threading
from dataclasses import replace
from typing import Any

import msgpack
import msgpack_numpy
import msgspec
import numpy as np
import pytest
from echo_server import echo_app, wait_until_healthy
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from vla_client.message_pack import pack, unpack
from vla_server_base.errors import ImageError, ProtocolError, Superseded
from vla_server_base.protocols import vla_eval
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.echo import noise

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)


def frame(kind: str, seq: int = 1, **payload) -> bytes:
    return pack({"type": kind, "payload": payload, "seq": seq, "timestamp": 0.0})


def observed(seq: int = 1, image: Any = RED, **payload) -> bytes:
    return frame("observation", seq, images={"agentview": image}, task_description="go", **payload)


def file_of(pixels: np.ndarray, file_format: str) -> dict:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return {"__image__": True, "format": file_format, "data": buffer.getvalue(), "shape": list(pixels.shape)}


RAW = {"__image__": True, "format": "raw", "data": RED.tobytes(), "dtype": "|u1", "shape": [8, 8, 3]}


@pytest.mark.parametrize("image", [RED, file_of(RED, "png"), RAW], ids=["array", "png", "raw"])
def test_an_observation_is_a_turn(reader, image):
    turn = vla_eval.read_observation(vla_eval.read(observed(image=image)), reader)
    assert turn.task.instruction == "go"
    np.testing.assert_array_equal(turn.observation.images["primary"], RED)


def test_a_jpeg_is_a_picture(reader):
    turn = vla_eval.read_observation(vla_eval.read(observed(image=file_of(RED, "jpeg"))), reader)
    np.testing.assert_allclose(turn.observation.images["primary"], RED, atol=3)


def test_an_only_camera_may_have_any_name_and_two_have_the_known_ones(reader):
    only = vla_eval.read(frame("observation", images={"viewport": RED}, task_description="go"))
    assert set(vla_eval.read_observation(only, reader).observation.images) == {"primary"}
    both = vla_eval.read(frame("observation", images={"front": RED, "wrist": RED}, task_description="go"))
    assert set(vla_eval.read_observation(both, reader).observation.images) == {"primary", "wrist"}
    unknown = vla_eval.read(frame("observation", images={"a": RED, "b": RED}, task_description="go"))
    with pytest.raises(ProtocolError, match=r"the message has: images.a, images.b, task_description"):
        vla_eval.read_observation(unknown, reader)
    of_the_hand = vla_eval.read(frame("observation", images={"wrist": RED}, task_description="go"))
    assert set(vla_eval.read_observation(of_the_hand, reader).observation.images) == {"wrist"}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        "text",
        pack([]),
        pack({"type": "hello", "payload": {}}),
        pack({"type": "kill", "payload": {}, "seq": 1}),
        pack({"type": "hello", "payload": 1, "seq": 1}),
        pack({"type": "hello", "payload": {}, "seq": "1"}),
    ],
)
def test_what_is_no_message_is_refused(message):
    with pytest.raises(ProtocolError):
        vla_eval.read(message)


@pytest.mark.parametrize(
    "image", [3, {"__image__": True}, {**RAW, "shape": [9, 9, 3]}, {**file_of(RED, "png"), "data": b"x"}]
)
def test_what_is_no_picture_is_refused(reader, image):
    with pytest.raises((ImageError, ProtocolError)):
        vla_eval.read_observation(vla_eval.read(observed(image=image)), reader)


def test_the_greeting_says_what_the_actions_are():
    found = unpack(vla_eval.greeting(EchoAdapter().spec, 5))
    assert (found["type"], found["seq"], found["payload"]["protocol_version"]) == ("hello", 5, 1)
    assert found["payload"]["observation_spec"]["image"]["format"] == "rgb_hwc_uint8"


def test_the_greeting_asks_benchmarks_for_what_the_policy_takes():
    spec = EchoAdapter().spec
    assert unpack(vla_eval.greeting(spec, 5))["payload"]["observation_params"] == {
        "send_wrist_image": True,
        "send_state": True,
    }
    blind = replace(spec, cameras=spec.cameras[:1], proprio_dim=None)
    assert "observation_params" not in unpack(vla_eval.greeting(blind, 5))["payload"]


def test_an_error_has_the_seq_of_what_it_answers():
    found = unpack(vla_eval.write_error(Superseded("too old", hint="reset starts over"), "7", 3))
    assert (found["type"], found["seq"]) == ("error", 3)
    assert found["payload"]["error"] == "superseded: too old; reset starts over (request_id 7)"


@pytest.fixture
def harness(url):
    with connect(url.replace("http", "ws", 1) + "/vla-eval", compression=None) as socket:
        yield socket


def asked(socket: ClientConnection, message: bytes) -> dict:
    socket.send(message)
    return unpack(socket.recv(timeout=30))


def test_an_episode_as_the_harness_runs_it(harness):
    assert asked(harness, frame("hello"))["payload"]["model_server"] == "vla-servers: echo"
    for _ in range(2):
        harness.send(frame("episode_start", task={"name": "go"}, seed=3))
        answers = [asked(harness, observed(seq)) for seq in (5, 6)]
        harness.send(frame("episode_end", success=True))
        assert [(answer["type"], answer["seq"]) for answer in answers] == [("action", 5), ("action", 6)]
        actions = [answer["payload"]["actions"] for answer in answers]
        assert {"read", "queue", "infer", "write", "total"} <= set(answers[0]["payload"]["timing_ms"])
        assert {(action.dtype.str, action.shape) for action in actions} == {("<f4", (7,))}
        np.testing.assert_allclose([action[6] for action in actions], [noise(3, 0), noise(3, 1)], rtol=1e-6)


def test_an_array_is_marked_by_text_as_its_clients_know_it(harness):
    harness.send(observed())
    assert "__ndarray__" in msgspec.msgpack.decode(harness.recv(timeout=30))["payload"]["actions"]


def test_a_client_that_sends_maps_of_msgpack_numpy_gets_one_back(harness):
    observation = {"images": {"agentview": RED}, "task_description": "go"}
    harness.send(pack({"type": "observation", "payload": observation, "seq": 1}, "msgpack_numpy"))
    answer = msgpack.unpackb(harness.recv(timeout=30), object_hook=msgpack_numpy.decode)
    assert answer["payload"]["actions"].shape == (7,)


def test_an_error_leaves_the_connection_as_it_is(harness):
    for wrong in (b"\xc1", observed(4, image=3)):
        assert asked(harness, wrong)["type"] == "error"
    assert asked(harness, observed(5))["type"] == "action"


class GatedEcho(EchoAdapter):
    """An echo whose device can be held up."""

    def __init__(self):
        self.gate = threading.Event()

    def predict(self, batch):
        self.gate.wait(30)
        return super().predict(batch)


def test_in_live_mode_the_newest_observation_is_answered_and_each_overtaken_one_told_so():
    adapter = GatedEcho()
    adapter.gate.set()
    with serving(echo_app(adapter)) as url:
        wait_until_healthy(url)
        with connect(url.replace("http", "ws", 1) + "/vla-eval", compression=None) as socket:
            asked(socket, frame("hello"))
            adapter.gate.clear()
            socket.send(frame("episode_start", task={"name": "go"}, mode="live", seed=3))
            for seq in range(2, 22):
                socket.send(observed(seq))
            overtaken = [unpack(socket.recv(timeout=30)) for _ in range(18)]
            adapter.gate.set()
            first, newest = (unpack(socket.recv(timeout=30)) for _ in range(2))
            assert asked(socket, observed(30))["type"] == "action", "the conversation goes on"
    assert [(each["type"], each["seq"]) for each in overtaken] == [("error", seq) for seq in range(3, 21)]
    assert all(each["payload"]["error"].startswith("superseded: a newer observation") for each in overtaken)
    assert [(each["type"], each["seq"]) for each in (first, newest)] == [("action", 2), ("action", 21)]
    action = newest["payload"]["actions"]
    np.testing.assert_allclose(action[5:], [2, noise(3, 19)], rtol=1e-6, err_msg="what was overtaken is skipped")


def test_an_episode_begins_while_observations_of_the_last_one_wait():
    adapter = GatedEcho()
    adapter.gate.set()
    with serving(echo_app(adapter)) as url:
        wait_until_healthy(url)
        with connect(url.replace("http", "ws", 1) + "/vla-eval", compression=None) as socket:
            asked(socket, frame("hello"))
            adapter.gate.clear()
            for seq in (2, 3):
                socket.send(observed(seq))
            socket.send(frame("episode_start", 4, task={}, dataset="echo_doubled"))
            told = [unpack(socket.recv(timeout=30)) for _ in range(2)]
            assert {(each["seq"], each["payload"]["error"].partition(":")[0]) for each in told} == {
                (2, "superseded"),
                (3, "superseded"),
            }
            socket.send(observed(5))
            adapter.gate.set()
            answer = unpack(socket.recv(timeout=30))
    assert answer["seq"] == 5
    np.testing.assert_allclose(answer["payload"]["actions"][5], 3, err_msg="one timestep, as that dataset has it")

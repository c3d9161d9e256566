"""openpi's protocol: frames as its clients write and read them, then a live server."""

import asyncio
import json
import logging
import sys
import threading
import time
import urllib.parse
from contextlib import contextmanager
from dataclasses import replace
from socket import (
    IPPROTO_TCP,
    SHUT_RDWR,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_USER_TIMEOUT,
    create_connection,
)
from socket import socket as Socket
from typing import Any

import httpx
import msgpack
import msgpack_numpy
import msgspec
import numpy as np
import pytest
import websockets.asyncio.client
import websockets.exceptions
from echo_server import echo_app, wait_until, wait_until_healthy
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect

from vla_client.message_pack import pack, unpack, unpack_with_form
from vla_server_base.contract import Action
from vla_server_base.errors import ModelUnavailable, ProtocolError, Superseded
from vla_server_base.protocols import openpi
from vla_server_base.protocols.stopwatch import Stopwatch
from vla_server_base.server.sockets import SocketProtocol
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.sessions.requests import EpisodeRequest, StepResult
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.echo import noise

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)


def frame(**message) -> bytes:
    return pack({"observation/image": RED, "prompt": "go", **message}, "bytes_keys")


def infer_request(message: bytes, reader) -> openpi.InferRequest:
    request = openpi.read(message, reader)
    assert isinstance(request, openpi.InferRequest)
    return request


def test_the_greeting_says_what_is_served_and_what_roboarena_asks(reader):
    found = unpack(openpi.greeting(reader))
    assert (found["model"], found["window"], found["action_horizon"], found["action_dim"]) == ("echo", 2, 4, 7)
    assert "observation/image" in found["observation_keys"]["primary"]
    assert found["image_resolution"] == [224, 224]


def test_an_observation_is_a_turn(reader):
    turn = infer_request(frame(seed=3), reader).step
    assert (turn.task.instruction, turn.seed) == ("go", 3)
    assert infer_request(frame(endpoint="infer"), reader).step.task == turn.task


def test_a_reset_is_one(reader):
    assert openpi.read(pack({"endpoint": "reset", "seed": 4}), reader) == EpisodeRequest(seed=4, executes_chunks=True)


@pytest.mark.parametrize("message", [frame(endpoint="kill"), pack([1]), pack("x"), b"", b"\xc1"])
def test_what_is_neither_is_refused(reader, message):
    with pytest.raises(ProtocolError):
        openpi.read(message, reader)


def test_actions_are_the_only_array_of_an_answer(reader):
    action = Action(
        action=np.zeros(8), action_names=("x",) * 8, action_units=("m",) * 8, actions=np.arange(28.0).reshape(4, 7)
    )
    result = StepResult(
        action=action,
        dataset="echo",
        action_format="standard",
        session_id="arm",
        step=2,
        seed=7,
        sequence=5,
        obs_time=None,
        asked_policy=True,
        infer_ms=1.5,
    )
    request = infer_request(frame(), reader)
    reply = unpack(openpi.write(result, request, Stopwatch()))
    np.testing.assert_array_equal(reply["actions"], action.actions)
    session = {"id": "arm", "step": 2, "sequence": 5, "obs_time": None, "asked_policy": True}
    assert reply["session"] == session | {"seed": 7}
    assert reply["policy_timing"] == {"infer_ms": 1.5}
    raw = msgspec.msgpack.decode(openpi.write(result, request, Stopwatch()))
    assert b"__ndarray__" in raw["actions"], "as its clients know it"


def test_an_error_is_text_with_what_to_do():
    error = Superseded("too old", hint="reset starts over")
    assert openpi.write_error(error, "7") == "superseded: too old; reset starts over (request_id 7)"


class Client:
    """A connection as openpi's client makes it."""

    def __init__(self, socket: ClientConnection):
        self.socket = socket
        self.metadata = unpack(socket.recv())

    def ask(self, message: bytes | str) -> Any:
        self.socket.send(message)
        answer = self.socket.recv()
        return answer if isinstance(answer, str) else unpack(answer)


def address(url: str) -> str:
    return url.replace("http", "ws", 1) + "/"


@contextmanager
def client_of(url: str):
    with connect(address(url), compression=None, max_size=None) as socket:
        yield Client(socket)


def test_a_connection_is_a_session(url):
    with client_of(url) as client:
        assert client.metadata["model"] == "echo"
        answers = [client.ask(frame(seed=3)) for _ in range(3)]
    assert [answer["session"]["step"] for answer in answers] == [0, 1, 2]
    np.testing.assert_allclose([answer["actions"][0, 5] for answer in answers], [1, 2, 2])
    np.testing.assert_allclose([answer["actions"][0, 6] for answer in answers], [noise(3, step) for step in range(3)])
    timing = answers[0]["server_timing"]
    assert set(timing) == {"read_ms", "answer_ms", "write_ms", "queue_ms", "infer_ms", "total_ms"}
    assert timing["total_ms"] >= timing["read_ms"] + timing["answer_ms"] + timing["write_ms"]


@pytest.mark.parametrize("form", ["bytes_keys", "text_keys", "msgpack_numpy", "npy"])
def test_arrays_come_back_in_the_form_in_which_they_were_sent(url, form):
    with client_of(url) as client:
        client.socket.send(pack({"observation/image": RED, "prompt": "go", "seed": 3}, form))
        found, came_in = unpack_with_form(client.socket.recv())
    assert (came_in, found["actions"].shape) == (form, (4, 7))


def test_a_client_of_the_package_msgpack_numpy_is_answered(url):
    message = {"observation/image": RED, "prompt": "go", "seed": np.int64(3)}
    with client_of(url) as client:
        client.socket.send(msgpack.packb(message, default=msgpack_numpy.encode))
        found = msgpack.unpackb(client.socket.recv(), object_hook=msgpack_numpy.decode)
    np.testing.assert_allclose(found["actions"][0, 6], noise(3, 0))


ALOHA = {"cam_high": RED.transpose(2, 0, 1), "cam_left_wrist": RED.transpose(2, 0, 1)}
FORMS = {
    "uint8": {"observation/image": RED, "observation/wrist_image": RED},
    "uint8 CHW": {"observation/image": RED.transpose(2, 0, 1), "observation/wrist_image": RED.transpose(2, 0, 1)},
    "float32": {"observation/image": RED / np.float32(255), "observation/wrist_image": RED / 255},
    "ALOHA": {"images": ALOHA | {"cam_low": 0 * ALOHA["cam_high"], "cam_right_wrist": 0 * ALOHA["cam_high"]}},
    "pi0": {"image": {"base_0_rgb": RED, "left_wrist_0_rgb": RED}, "image_mask": {"base_0_rgb": True}},
    "DROID": {"observation/exterior_image_1_left": RED, "observation/wrist_image_left": RED},
}


@pytest.mark.parametrize("pictures", FORMS.values(), ids=FORMS)
def test_the_same_pictures_in_each_form_get_the_same_answer(url, pictures):
    with client_of(url) as client:
        found = client.ask(pack({**pictures, "prompt": "go", "seed": 3}, "bytes_keys"))
        np.testing.assert_array_equal(found["actions"], client.ask(frame(**FORMS["uint8"], reset=True))["actions"])


def test_a_default_instruction_and_a_dataset_by_another_name_are_said_in_the_answer_and_once_in_the_log(caplog):
    caplog.set_level(logging.INFO, "vla_server_base.sessions.step")

    class OfOneDataset(EchoAdapter):
        @property
        def spec(self):
            return replace(super().spec, datasets=("echo",))

    with serving(echo_app(OfOneDataset(), default_instruction="wipe the table")) as url:
        wait_until_healthy(url)
        with client_of(url) as client:
            assert client.metadata["default_instruction"] == "wipe the table"
            message = pack({"image": RED, "unnorm_key": "bridge_orig"})
            notes = [client.ask(message)["session"]["notes"] for _ in range(3)][-1]
            assert "notes" not in client.ask(frame(reset=True))["session"]
    assert len(notes) == 2
    assert "'wipe the table'" in notes[0]
    assert "'bridge_orig' is not known" in notes[1]
    assert caplog.text.count("; ".join(notes)) == 1


def test_a_reset_and_another_prompt_begin_anew(url):
    with client_of(url) as client:
        first = client.ask(frame(seed=3))
        client.ask(frame())
        assert client.ask(pack({"endpoint": "reset"})) == "reset successful"
        np.testing.assert_array_equal(client.ask(frame())["actions"], first["actions"])
        assert client.ask(frame(prompt="stop"))["session"]["step"] == 0


def test_an_error_leaves_the_connection_as_it_is(url):
    with client_of(url) as client:
        for wrong in (b"\xc1", "hello", pack({"prompt": "go"}), frame(sequence=-1), pack([])):
            assert "(request_id " in client.ask(wrong)
        assert client.ask(frame())["session"]["step"] == 0


def test_a_session_that_is_named_outlives_its_connection(url):
    with client_of(url) as client:
        first = client.ask(frame(session_id="outlives", seed=1, return_token=True))
    with client_of(url) as client:
        assert client.ask(frame(session_id="outlives"))["session"]["step"] == 1
        again = client.ask(frame(session_token=first["session"]["token"]))
        assert again["session"]["id"] == "outlives"
    with client_of(url) as client:
        assert client.ask(frame())["session"]["step"] == 0


def test_connections_at_once_get_what_each_gets_alone(url):
    def episode(robot: int) -> list:
        with client_of(url) as client:
            picture = np.full((8, 8, 3), 10 * robot, np.uint8)
            return [client.ask(frame(seed=robot, **{"observation/image": picture}))["actions"] for _ in range(20)]

    alone = [episode(robot) for robot in range(4)]
    together: list[list] = [[]] * 4

    def run(robot: int) -> None:
        together[robot] = episode(robot)

    threads = [threading.Thread(target=run, args=(robot,)) for robot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(together, alone)


def send_and_hear(socket: ClientConnection, frame: bytes) -> None:
    socket.send(frame)
    socket.recv(timeout=30)


@pytest.mark.parametrize("megabytes", [2, 16])
def test_a_frame_over_the_limit_closes_the_connection_and_nothing_else(url, megabytes):
    for _ in range(5):
        with client_of(url) as client:
            # More than the sockets between hold: the server refuses it while it is still sent.
            with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
                send_and_hear(client.socket, bytes(megabytes * 2**20))
            assert closed.value.rcvd.code == 1009
    with client_of(url) as client:
        assert client.ask(frame())["session"]["step"] == 0


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: robot\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
FRAME_OF_A_TERABYTE = bytes([0x82, 0xFF]) + (2**40).to_bytes(8, "big") + bytes(4)


def send_for_ever(wire: Socket) -> None:
    began = time.monotonic()
    while time.monotonic() - began < 30:
        wire.sendall(bytes(1000))
        time.sleep(0.2)


def test_one_who_goes_on_sending_after_a_refusal_is_not_heard_for_ever(url, monkeypatch):
    # uvicorn sets 10 s in each connection's __init__.
    monkeypatch.setattr(SocketProtocol, "close_timeout", property(lambda _: 0.5, lambda *_: None), raising=False)
    parts = urllib.parse.urlsplit(url)
    with create_connection((parts.hostname, parts.port)) as wire:
        wire.sendall(HANDSHAKE + FRAME_OF_A_TERABYTE)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_ever(wire)


def refused_handshake(address: str) -> Response:
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused, connect(address):
        pass
    return refused.value.response


def closed_with(socket: ClientConnection) -> int:
    with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
        socket.recv(timeout=30)
    return closed.value.rcvd.code


def test_a_connection_too_many_is_told_so_and_one_more_comes_when_another_has_left(caplog):
    with serving(echo_app(max_connections=1)) as url:
        wait_until_healthy(url)
        with client_of(url):
            refusal = refused_handshake(address(url))
            assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "1")
            assert "1 connections are open" in json.loads(refusal.body)["error"]["message"]
        with client_of(url) as client:
            assert client.ask(frame())["session"]["step"] == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_connection_on_which_nothing_is_said_is_closed():
    with serving(echo_app(connection_idle_s=0.5)) as url:
        wait_until_healthy(url)
        with client_of(url) as client:
            client.ask(frame())
            assert closed_with(client.socket) == 1001


def test_a_session_ends_when_its_connection_names_another(url):
    with client_of(url) as client:
        for session_id in ("episode-0", "episode-1"):
            assert [client.ask(frame(session_id=session_id))["session"]["step"] for _ in range(2)] == [0, 1]
        assert sessions_at(url, "episode-") == ["episode-1"]
        client.ask(pack({"endpoint": "reset", "session_id": "episode-2"}))
        assert sessions_at(url, "episode-") == ["episode-2"]


def test_a_session_that_somebody_else_has_used_since_does_not_end(url):
    with client_of(url) as client, client_of(url) as other:
        for session_id in ("shared-0", "shared-1"):
            client.ask(frame(session_id=session_id))
            assert other.ask(frame(session_id="shared-0"))["session"]["step"] > 0
        assert sessions_at(url, "shared-") == ["shared-0", "shared-1"]


def test_two_robots_on_one_connection_are_told_so_and_not_begun_anew_at_every_turn(url):
    with client_of(url) as client:
        client.ask(frame(session_id="left-arm"))
        client.ask(frame(session_id="right-arm"))
        assert "session 'left-arm' ended when this connection named another" in client.ask(frame(session_id="left-arm"))
        assert client.ask(frame(session_id="right-arm"))["session"]["step"] == 1
        assert client.ask(frame(session_id="left-arm", reset=True))["session"]["step"] == 0


def sessions_at(url: str, start: str) -> list[str]:
    listed = httpx.get(f"{url}/sessions").json()["sessions"]
    return sorted(session["id"] for session in listed if session["id"].startswith(start))


def test_settings_hold_for_an_episode_of_a_connection(url):
    with client_of(url) as client:
        first = client.ask(frame(dataset="echo_doubled"))["actions"]
        np.testing.assert_array_equal(client.ask(frame())["actions"][:, :5], first[:, :5])
        assert "within an episode" in client.ask(frame(dataset="echo"))
        np.testing.assert_array_equal(2 * client.ask(frame(prompt="stop"))["actions"][:, 0] + 1, first[:, 0])
        client.ask(pack({"endpoint": "reset", "dataset": "echo_doubled"}))
        np.testing.assert_array_equal(client.ask(frame())["actions"][:, 0], first[:, 0])


class SlowEcho(EchoAdapter):
    """An echo that takes as long to load as it is told to, and then may be broken."""

    def __init__(self, fault: Exception | None = None):
        self.may_load = threading.Event()
        self._fault = fault

    def load_model(self, model_id, device, cache_dir):
        self.may_load.wait(30)
        if self._fault is not None:
            raise self._fault


@pytest.mark.parametrize("path", ["", "vla-eval"])
def test_while_the_policy_cannot_be_loaded_a_handshake_is_answered_with_503_and_the_reason(path):
    adapter = SlowEcho(ModelUnavailable("the weights are damaged", hint="download them again"))
    with serving(echo_app(adapter)) as url:
        with connect(address(url)) as waiting:
            adapter.may_load.set()
            assert "model_unavailable: the weights are damaged" in waiting.recv(timeout=30)
            assert closed_with(waiting) == 1013
        refusal = refused_handshake(address(url) + path)
        assert (refusal.status_code, json.loads(refusal.body)["error"]["message"]) == (
            503,
            "the weights are damaged; download them again",
        )


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        ("openpi", 404, "not_found", "there is no WebSocket at /openpi"),
        ("predict", 405, "method_not_allowed", "/predict does not accept WebSockets"),
        ("sessions/a/b", 405, "method_not_allowed", "/sessions/a/b does not accept WebSockets"),
    ],
)
def test_where_there_is_no_websocket_a_handshake_is_told_where_they_are(url, path, status, code, said):
    refusal = refused_handshake(address(url) + path)
    error = json.loads(refusal.body)["error"]
    assert (refusal.status_code, error["code"], error["message"]) == (status, code, said)
    assert "WebSockets are at / and /vla-eval" in error["hint"]
    assert json.loads(refusal.body)["request_id"] == refusal.headers["X-Request-Id"]


def test_where_there_are_websockets_alone_a_browser_is_told_so(url):
    answer = httpx.get(f"{url}/vla-eval")
    assert (answer.status_code, answer.headers["Upgrade"]) == (426, "websocket")
    assert answer.json()["error"]["code"] == "upgrade_required"


def test_a_client_that_stalls_is_waited_for_and_one_that_is_to_be_pinged_is_not():
    for ping_s, is_answered in ((0.0, True), (0.2, False)):
        with serving(echo_app(websocket_ping_s=ping_s)) as url:
            wait_until_healthy(url)
            assert asyncio.run(_is_answered_after_a_stall(address(url))) == is_answered


async def _is_answered_after_a_stall(address: str) -> bool:
    async with websockets.asyncio.client.connect(address, ping_interval=None) as socket:
        await socket.recv()
        time.sleep(1.0)  # as a simulator does that is built in the event loop
        try:
            await socket.send(frame())
            return isinstance(await socket.recv(), bytes)
        except websockets.exceptions.ConnectionClosed:
            return False


def test_a_client_waits_for_a_policy_that_loads_and_its_pings_are_answered():
    adapter = SlowEcho()
    with serving(echo_app(adapter)) as url:
        with connect(address(url), compression=None, ping_interval=0.1, ping_timeout=0.5) as socket:
            with pytest.raises(TimeoutError):
                socket.recv(timeout=2)
            adapter.may_load.set()
            assert unpack(socket.recv(timeout=30))["model"] == "echo"
        wait_until_healthy(url)


def test_a_client_that_is_killed_leaves_no_session(url):
    def own_session_is_held() -> bool:
        return own in sessions_at(url, "socket:")

    with client_of(url) as client:
        own = client.ask(frame())["session"]["id"]
        assert own_session_is_held()
        # No close frame: the connection alone ends, as it does when a process is killed.
        client.socket.socket.shutdown(SHUT_RDWR)
    wait_until(lambda: not own_session_is_held())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other names for it")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_peer_that_vanishes_is_noticed_by_the_kernel_within_a_minute(loop, monkeypatch):
    options = {}

    class Observed(SocketProtocol):
        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            wire = transport.get_extra_info("socket")
            options["keepalive"] = wire.getsockopt(SOL_SOCKET, SO_KEEPALIVE)
            for name in (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT):
                options[name] = wire.getsockopt(IPPROTO_TCP, name)

    monkeypatch.setattr("vla_server_base.server.sockets.SocketProtocol", Observed)
    with serving(echo_app(), loop=loop) as url:
        wait_until_healthy(url)
        with client_of(url):
            pass
    assert options.pop("keepalive") == 1
    assert options.pop(TCP_USER_TIMEOUT) == 60_000
    assert options[TCP_KEEPIDLE] + options[TCP_KEEPINTVL] * options[TCP_KEEPCNT] == 60

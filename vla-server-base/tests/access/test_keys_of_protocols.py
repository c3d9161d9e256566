"""API keys on WebSockets, GR00T's ZeroMQ and LeRobot's gRPC: at the beginning, when revoked, and over their rate."""

import re
from contextlib import closing

import grpc
import msgspec
import numpy as np
import pytest
import zmq
from echo_server import wait_until
from keyed_server import keyed_server
from required_inputs_robots import ROBOTS, DoorRobot, Refused, Seen
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from vla_client.errors import VLAError
from vla_client.message_pack import pack
from vla_server_base.protocols import lerobot
from vla_server_base.testing.protocol_robots import Gr00tRobot, OpenpiRobot, VlaEvalRobot

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)
SOCKETS = [OpenpiRobot, VlaEvalRobot]


@pytest.mark.parametrize("robot", SOCKETS)
@pytest.mark.parametrize("secret", [None, "vla_wrong"])
def test_a_websocket_without_a_valid_key_is_refused_at_the_handshake(keyed, robot, secret):
    with pytest.raises(InvalidStatus) as refused:
        robot(keyed.url, secret)
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["www-authenticate"] == "Bearer"
    assert b"unauthorized" in refused.value.response.body


@pytest.mark.parametrize("robot", SOCKETS)
def test_a_websocket_whose_key_is_revoked_is_closed_at_the_next_message(keyed, robot):
    arm = robot(keyed.url, keyed.secrets["arm-1"])
    arm.begin(0)
    assert arm.act(RED, "go").shape == (7,)
    keyed.revoke("arm-1")
    with pytest.raises((VLAError, KeyError)):  # an error instead of actions
        arm.act(RED, "go")
    with pytest.raises(ConnectionClosedError) as closed:
        arm.act(RED, "go")
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "the API key 'arm-1' was revoked")


def test_openpis_client_is_told_in_a_text_frame_that_its_key_was_revoked(keyed):
    header = {"Authorization": f"Api-Key {keyed.secrets['arm-1']}"}
    with connect(keyed.url.replace("http", "ws"), additional_headers=header) as socket:
        socket.recv()
        keyed.revoke("arm-1")
        socket.send(pack({"observation/image": RED, "prompt": "go"}))
        assert str(socket.recv()).startswith("unauthorized: the API key 'arm-1' was revoked; ")


def test_each_of_gr00ts_messages_needs_a_key(keyed):
    arm = Gr00tRobot(keyed.zmq_port, keyed.secrets["arm-1"])
    arm.begin(0)
    assert arm.act(RED, "go").shape == (7,)
    keyed.revoke("arm-1")
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(f"tcp://127.0.0.1:{keyed.zmq_port}")
        for endpoint in ("ping", "get_modality_config", "reset", "get_action"):
            for token in ({}, {"api_token": "vla_wrong"}, {"api_token": keyed.secrets["arm-1"]}, {"api_token": 3}):
                socket.send(msgspec.msgpack.encode({"endpoint": endpoint, "data": {}, **token}))
                assert msgspec.msgpack.decode(socket.recv())["error"].startswith("unauthorized: ")
    arm.close()


def called(port: int, *metadata: tuple[str, str], method: str = "Ready") -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return channel.unary_unary(f"/{lerobot.SERVICE}/{method}")(b"", timeout=30, metadata=metadata)


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer vla_wrong"),)])
def test_a_grpc_call_without_a_valid_key_is_unauthenticated(keyed, metadata):
    with pytest.raises(grpc.RpcError) as refused:
        called(keyed.lerobot_port, *metadata)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "unauthorized" in refused.value.details()


def test_a_grpc_call_has_its_key_in_the_metadata(keyed):
    authorization = ("authorization", f"Bearer {keyed.secrets['arm-1']}")
    assert called(keyed.lerobot_port, authorization) == b""
    keyed.revoke("arm-1")
    with pytest.raises(grpc.RpcError) as refused:
        called(keyed.lerobot_port, authorization)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_lerobots_own_clients_count_as_the_key_that_a_setting_names(tmp_path, log_lines):
    with keyed_server(tmp_path, lerobot_key="arm-2") as server:
        assert called(server.lerobot_port) == b""
        assert "client=key:arm-2" in log_lines("grpc call=Ready")[0]
        server.revoke("arm-2")
        with pytest.raises(grpc.RpcError) as refused:
            called(server.lerobot_port)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def refusal_of(robot: DoorRobot) -> str | None:
    try:
        assert robot.act(Seen(images={"primary": RED}, instruction="go")).shape == (7,)
    except Refused as refused:
        return str(refused)
    return None


@pytest.mark.parametrize("protocol", ROBOTS)
def test_a_robot_over_its_keys_rate_is_told_so_alone_and_answered_again_later(keyed, protocol):
    kind, rate = ROBOTS[protocol], 2
    limited, free = (keyed.ports(secret) for secret in (keyed.issue(protocol, rate=rate), keyed.secrets["arm-2"]))
    with closing(kind(limited)) as robot, closing(kind(free)) as other:
        assert [refusal_of(robot) for _ in range(rate)] == [None] * rate, "each step counts once"
        told = next(said for _ in range(200) if (said := refusal_of(robot)))
        assert re.search(rf"rate_limited.*key:{protocol} may send 2 requests a second.*again in \d s", told)
        assert refusal_of(other) is None
        wait_until(lambda: refusal_of(robot) is None)

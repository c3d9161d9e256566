"""Values of other types in every place of a whole message, sent to a server: no answer is `internal`."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import json_numpy
import msgspec
import numpy as np
import pytest
import zmq
from echo_server import echo_app, of_one_colour, wait_until_healthy
from free_port import free_port
from websockets.sync.client import connect

from vla_client.message_pack import pack
from vla_server_base.server.openapi import EXECUTE_EXAMPLES
from vla_server_base.server.uvicorn_server import serving

PICTURE = np.full((4, 6, 3), 200, np.uint8)
ODD: list[Any] = [
    None,
    True,
    -1,
    2**63,
    1e308,
    "x",
    "",
    "\ud7ff\x00",
    [],
    [1, "x", [None]],
    [[[[[[1]]]]]],
    {},
    {"a": {"b": [1]}},
    {"__ndarray__": True},
    {"__numpy__": "x"},
    {"__image__": True, "format": "raw"},
]
IN_BINARY = [
    *ODD,
    b"\xff",
    float("nan"),
    np.zeros((2, 2)),
    np.array(3),
    np.zeros((0, 3), np.uint8),
    np.full((4, 4, 3), np.nan),
    np.array([True, False]),
]
SESSION = {"session_id": "arm", "seed": 3, "reset": True, "sequence": 4, "obs_time": 0.5, "deadline_ms": 5e4}
SESSION |= {"execution": "chunk", "execution_horizon": 2, "return_token": True, "dataset": "echo"}
OPENPI = {"endpoint": "infer", "observation": {"image": PICTURE, "state": np.zeros(3)}, "prompt": "go", **SESSION}
OPENPI |= {"images": {"wrist": PICTURE}, "image_mask": {"wrist": np.array(True)}}
PAYLOAD = {
    "images": {"agentview": PICTURE, "wrist": PICTURE},
    "task_description": "go",
    "states": np.zeros(3),
    **SESSION,
}
VLA_EVAL = {"type": "observation", "payload": PAYLOAD, "seq": 1, "timestamp": 0.5}
START = {"type": "episode_start", "payload": {"task": {"name": "go"}, "seed": 3, "session_id": "arm"}, "seq": 2}
HELLO = {"type": "hello", "payload": {"harness_version": "1"}, "seq": 3}
SEEN = {
    "video": {"primary": PICTURE[None, None], "wrist": PICTURE[None, None]},
    "state": {"x": np.zeros((1, 1, 3))},
    "language": {"task": [["go"]]},
}
GR00T = {"endpoint": "get_action", "data": {"observation": SEEN, "options": SESSION}}
BARE = {"endpoint": "get_action", "data": {"video.primary": PICTURE[None], "annotation.human.task_description": ["go"]}}
RESET = {"endpoint": "reset", "data": {"options": {"seed": 1}}}
CONFIG = {"endpoint": "get_modality_config", "data": {}}
ACT = {"image": PICTURE, "instruction": "go", "proprio": np.zeros(3), "unnorm_key": "echo", **SESSION}
QUERY = {
    "observation": {"image_primary": PICTURE},
    "text": "go",
    "modality": "l",
    "ensemble": True,
    "dataset_name": "echo",
}
BODY = {
    "instruction": "go",
    "images": {"primary": of_one_colour(1, 2, 3)},
    "history": [{"image": of_one_colour(1, 2, 3), "proprio": [1.0, 2.0, 3.0]}],
    "goal_images": {"wrist": of_one_colour(1, 2, 3)},
    "proprio": [1.0, 2.0, 3.0],
    "dataset": "echo",
    "action_format": "ee_delta",
    "num_samples": 2,
    "seed": 1,
    "step": 2,
    "return_image": True,
}
TURN = {name: value for name, value in BODY.items() if name not in ("history", "num_samples", "step")}
SCENE = {
    **EXECUTE_EXAMPLES["described"]["value"],
    "cameras": {"wrist": ""},
    "camera": "primary",
    "assets": {},
    "state": {"qpos": [0.1, 0.2, 0.3], "mocap_pos": [], "ctrl": [0.0, 0.0, 0.0]},
    "control": {"rate_hz": 5.0, "frame": "tool"},
    "bounds": {"workspace": [[-9.0, -9.0, -9.0], [9.0, 9.0, 9.0]]},
    "guard": "warn",
}
del SCENE["max_steps"]
EPISODE = SCENE | {
    "max_steps": 1,
    "ensemble_weight": 1.0,
    "latency_ms": 1.0,
    "frames": "jpeg",
    "record": ["webp"],
    "success": [{"kind": "measured", "measure": "joint", "names": ["j1"], "direction": [0.0, 0.0, 1.0], "low": 0.1}],
}


def changed(message: Mapping[str, Any], values: list[Any]) -> Iterator[dict[str, Any]]:
    """A message with each of some values in each of its places, beside what it has."""
    for value in values:
        yield {**message, "something": value}
        for key, there in message.items():
            yield {**message, key: value}
            if isinstance(there, dict):
                yield from ({**message, key: inner} for inner in changed(there, [value]))
            elif isinstance(there, list):
                yield {**message, key: [value]}
                yield from (
                    {**message, key: [inner]}
                    for part in there[:1]
                    if isinstance(part, dict)
                    for inner in changed(part, [value])
                )


@pytest.fixture(scope="module")
def server():
    zmq_port = free_port()
    with serving(echo_app(zmq_port=zmq_port, default_instruction="wait", renderer="raycast")) as url:
        wait_until_healthy(url)
        yield url, zmq_port


def check(answer: bytes | str, sent: object) -> None:
    text = answer if isinstance(answer, str) else answer.decode("utf-8", "replace")
    assert not any(each in text for each in ("internal: ", '"internal"')), (text, sent)


@pytest.mark.parametrize(
    ("path", "message"), [("/", OPENPI), ("/vla-eval", VLA_EVAL), ("/vla-eval", START), ("/vla-eval", HELLO)]
)
def test_sockets_answer_values_of_other_types(server, path, message):
    with connect(server[0].replace("http", "ws", 1) + path, compression=None) as socket:
        if path == "/":
            socket.recv(timeout=30)
        for sent in changed(message, IN_BINARY):
            socket.send(pack(sent, "bytes_keys" if path == "/" else "text_keys"))
            # The start of an episode has no answer, unless it is refused.
            with contextlib.suppress(TimeoutError):
                check(socket.recv(timeout=0.02 if message is START else 30), sent)
        socket.send(pack(message, "bytes_keys" if path == "/" else "text_keys"))
        if message is not START:
            assert isinstance(socket.recv(timeout=30), bytes), "as it is, it is answered"


def test_gr00t_answers_values_of_other_types(server):
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.set(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{server[1]}")
        for message in (GR00T, BARE, RESET, CONFIG):
            for sent in changed(message, IN_BINARY):
                socket.send(pack(sent, "msgpack_numpy"))
                assert socket.poll(30_000), "no answer"
                check(str(msgspec.msgpack.decode(socket.recv())), sent)


def encoded(message: Mapping[str, Any]) -> bytes:
    return json.dumps({"use_this": json_numpy.dumps(message)}).encode()


@pytest.mark.parametrize(
    ("path", "message", "write"),
    [
        ("/act", ACT, lambda sent: json_numpy.dumps(sent).encode()),
        ("/reset", SESSION, lambda sent: json_numpy.dumps(sent).encode()),
        ("/query", QUERY, encoded),
        ("/predict", BODY, lambda sent: json.dumps(sent).encode()),
        ("/predict", {**TURN, **SESSION}, lambda sent: json.dumps(sent).encode()),
        ("/predict", SCENE, lambda sent: json.dumps(sent).encode()),
        ("/execute", EPISODE, lambda sent: json.dumps(sent).encode()),
    ],
)
def test_routes_answer_values_of_other_types(server, path, message, write):
    with httpx.Client(base_url=server[0], timeout=60, headers={"Content-Type": "application/json"}) as client:
        as_it_is = client.post(path, content=write(message))
        assert as_it_is.status_code == 200, as_it_is.text
        for sent in changed(message, ODD):
            answer = client.post(path, content=write(sent))
            check(answer.text, sent)
            assert answer.status_code < 500 or answer.json()["error"]["code"] == "deadline_exceeded", (
                answer.text,
                sent,
            )

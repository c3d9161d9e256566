"""Messages of every protocol with bytes changed: an answer, an error or a clean close; never a dead server."""

import contextlib
import io
import json
import tracemalloc
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
import zmq
from echo_server import echo_app, wait_until_healthy
from free_port import free_port
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from vla_client.message_pack import pack
from vla_server_base.errors import VLAError
from vla_server_base.protocols import gr00t, json_numpy, openpi, openvla, vla_eval
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing.protocol_robots import OpenpiRobot

PICTURE = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
NUM_MUTANTS, NUM_SENT = 2000, 150
# A picture of the largest size may be made of a few bytes: a PNG is deflated. The reader takes 10 000 pixels.
MAX_PEAK_BYTES = 16 * 2**20


def npy() -> dict:
    file = io.BytesIO()
    np.save(file, PICTURE[None, None])
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def png() -> dict:
    import PIL.Image

    file = io.BytesIO()
    PIL.Image.fromarray(PICTURE).save(file, "PNG")
    return {"__image__": True, "format": "png", "data": file.getvalue(), "shape": [8, 8, 3]}


def said(kind: str, **payload) -> bytes:
    return pack({"type": kind, "payload": payload, "seq": 3, "timestamp": 0.5})


SEEN = {"observation/image": PICTURE, "observation/state": np.zeros(3), "prompt": "lift it"}
ASKED = {"image": PICTURE, "instruction": "lift it", "proprio": np.zeros(3)}
QUERY = {"observation": {"image_primary": PICTURE}, "text": "lift it", "modality": "l"}
SEEN_N17 = {"video": {"ego_view": PICTURE[None, None]}, "language": {"task": [["lift it"]]}}
VIDEO = {"video": {"primary": npy()}, "language": {"task": [["lift it"]]}}

OPENPI = [
    pack(SEEN, "bytes_keys"),
    pack({**SEEN, "seed": 3, "reset": True, "execution": "chunk", "execution_horizon": 2, "session_id": "arm"}),
    pack({"endpoint": "reset", "seed": 4}),
    pack(
        {"images": {"cam_high": PICTURE.transpose(2, 0, 1), "cam_low": PICTURE / 255}, "prompt": "go"}, "msgpack_numpy"
    ),
    pack({"image": {"base_0_rgb": PICTURE}, "image_mask": {"base_0_rgb": True}, "prompt": "go", "unnorm_key": "echo"}),
]
VLA_EVAL = [
    said("hello", harness_version="0.8.0"),
    said("episode_start", task={"name": "lift"}, seed=3),
    said("observation", images={"agentview": PICTURE, "wrist": png()}, task_description="lift it"),
    said("episode_end", success=True),
]
ACT = [
    json_numpy.dumps(ASKED).encode(),
    json.dumps({"encoded": json_numpy.dumps(ASKED)}).encode(),
    json_numpy.dumps({**ASKED, "session_id": "arm", "seed": 3, "sequence": 4}).encode(),
]
QUERIES = [json.dumps({"use_this": json_numpy.dumps(QUERY)}).encode()]
GR00T = [
    msgspec.msgpack.encode({"endpoint": "get_action", "data": {"observation": VIDEO, "options": {"seed": 3}}}),
    msgspec.msgpack.encode({"endpoint": "reset", "data": {"options": None}}),
    msgspec.msgpack.encode({"endpoint": "ping"}),
    pack({"data": {"observation": SEEN_N17, "options": None}}, "msgpack_numpy"),
    pack({"data": {"video.front": PICTURE[None], "annotation.human.task_description": ["lift it"]}}, "npy"),
]
# What lengths, types and signs look like in MessagePack, JSON and .npy.
TELLING = [
    b"\x00",
    b"\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdd\x00\x01\x00\x00",
    b"\xdf\x7f\xff\xff\xff",
    b"\xc1",
    b"\xd9",
]
TELLING += [b"-1", b"1e999", b"[[[[[[[[", b"null", b'"', b"|O", b"<f8", b"(999999999,)", b"\x80", b"\x90", b"\x93NUMPY"]


def mutant(message: bytes, random: np.random.Generator) -> bytes:
    """A message with one to four changes."""
    for _ in range(random.integers(1, 5)):
        start = int(random.integers(len(message) + 1))
        stop = min(len(message), start + int(random.integers(1, 40)))
        part = message[start:stop]
        changed = [
            message[:start] + random.bytes(1) + message[start + 1 :],
            message[:start] + message[stop:],
            message[:stop] + part + message[stop:],
            message[:start],
            message[:start] + random.bytes(int(random.integers(1, 9))) + message[start:],
            message[:start] + TELLING[random.integers(len(TELLING))] + message[stop:],
            message[stop:] + message[:stop],
        ]
        message = changed[random.integers(len(changed))]
    return message


def mutants(messages: list[bytes], count: int, seed: int = 0) -> list[bytes]:
    random = np.random.default_rng(seed)
    return [mutant(messages[number % len(messages)], random) for number in range(count)]


def read_vla_eval(frame: bytes, reader) -> None:
    vla_eval.read_observation(vla_eval.read(frame), reader)


def read_gr00t(message: bytes, reader) -> None:
    gr00t.read_observation(gr00t.read(message), reader)


READS = {
    "openpi": (openpi.read, OPENPI),
    "vla_eval": (read_vla_eval, VLA_EVAL),
    "act": (openvla.read_act, ACT),
    "query": (openvla.read_query, QUERIES),
    "gr00t": (read_gr00t, GR00T),
}


@pytest.mark.parametrize(("read", "messages"), READS.values(), ids=READS)
def test_a_mutated_message_is_read_or_refused_within_memory(reader, read, messages):
    num_read = 0
    for message in mutants(messages, NUM_MUTANTS):
        tracemalloc.start()
        with contextlib.suppress(VLAError):
            read(message, reader)
            num_read += 1
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MAX_PEAK_BYTES, message
    assert num_read, "some changes make no difference"


@pytest.fixture(scope="module")
def server():
    port = free_port()
    with serving(echo_app(zmq_port=port, max_body_mb=1, max_image_pixels=100_000)) as url:
        wait_until_healthy(url)
        yield url, port


@pytest.fixture
def as_before(server):
    """A robot gets the same before and after, and the server has not grown much."""

    def episode() -> np.ndarray:
        with contextlib.closing(OpenpiRobot(server[0])) as robot:
            robot.begin(3)
            return np.array([robot.act(PICTURE, "lift it") for _ in range(3)])

    before, kib = episode(), resident_kib()
    yield
    np.testing.assert_array_equal(episode(), before)
    assert resident_kib() - kib < 100 * 1024


def resident_kib() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


@pytest.mark.parametrize(("path", "messages"), [("/", OPENPI), ("/vla-eval", VLA_EVAL)])
def test_mutated_frames_are_answered_or_end_their_connection_alone(server, as_before, path, messages):
    url = server[0].replace("http", "ws", 1) + path
    frames, num_answered = mutants(messages, NUM_SENT), 0
    while frames:
        with connect(url, compression=None) as socket, contextlib.suppress(ConnectionClosedError):
            while frames:
                socket.send(frames.pop())
                # Two of vla-eval's messages have no answer.
                num_answered += bool(answer(socket))
    assert num_answered > NUM_SENT / 3


def answer(socket) -> bytes | str | None:
    try:
        return socket.recv(timeout=0.2)
    except TimeoutError:
        return None


@pytest.mark.parametrize(("path", "messages"), [("/act", ACT), ("/query", QUERIES), ("/reset", [b'{"seed": 3}'])])
def test_mutated_bodies_are_answered(server, as_before, path, messages):
    with httpx.Client(base_url=server[0], timeout=30) as client:
        for body in mutants(messages, NUM_SENT):
            answered = client.post(path, content=body)
            assert answered.status_code == 200 or "code" in answered.json()["error"]
            assert answered.status_code < 500


def test_mutated_messages_of_gr00t_are_answered(server, as_before):
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.set(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{server[1]}")
        for message in mutants(GR00T, NUM_SENT):
            socket.send(message)
            assert socket.poll(30_000), "no answer"
            msgspec.msgpack.decode(socket.recv())

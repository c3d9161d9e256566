"""GR00T's protocol: messages without a socket, then a live server with several clients."""

import io
import json
import socket as sockets
import threading
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
import zmq
from echo_server import echo_app, wait_until_healthy
from free_port import free_port

from vla_server_base.config import ConfigError
from vla_server_base.errors import ImageError, InstructionError, ProtocolError, RequestError, Superseded
from vla_server_base.protocols import gr00t
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.echo import noise

BARE = {
    "video.front": np.full((1, 8, 8, 3), (255, 0, 0), np.uint8),
    "video.wrist": np.zeros((1, 8, 8, 3), np.uint8),
    "state.single_arm": np.zeros((1, 2)),
    "state.gripper": np.ones((1, 1)),
    "annotation.human.task_description": ["go"],
}
RED = np.full((1, 2, 8, 8, 3), (255, 0, 0), np.uint8)


def npy(array: np.ndarray) -> dict:
    file = io.BytesIO()
    np.save(file, array)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def packed(content) -> bytes:
    """As GR00T's MsgSerializer writes it."""
    return msgpack.packb(content, default=lambda value: npy(value) if isinstance(value, np.ndarray) else value)


def unpacked(message: bytes):
    def decode(content):
        if "__ndarray_class__" in content:
            return np.load(io.BytesIO(content["as_npy"]), allow_pickle=False)
        return content

    return msgpack.unpackb(message, object_hook=decode)


def observed(video: Any = RED, said: Any = (("go",),), **options) -> bytes:
    observation = {"video": {"primary": video}, "language": {"task": said}}
    return packed({"endpoint": "get_action", "data": {"observation": observation, "options": options or None}})


def as_n17(content) -> bytes:
    """As N1.7's MsgSerializer writes it."""
    return msgpack.packb(content, default=msgpack_numpy.encode)


def from_n17(message: bytes):
    return msgpack.unpackb(message, object_hook=msgpack_numpy.decode, raw=False)


def bare(**more) -> bytes:
    """As N1.5's client sends an observation."""
    return packed({"endpoint": "get_action", "data": BARE | more})


def flat(**more) -> bytes:
    observation = {"video.primary": RED, "annotation.human.action.task_description": ["go"], **more}
    return packed({"endpoint": "get_action", "data": {"observation": observation}})


@pytest.mark.parametrize(
    "message", [observed(), flat(), observed(RED[0]), observed(RED[0, 0], "go"), bare(), observed(RED / 255)]
)
def test_an_observation_is_a_turn(reader, message):
    turn = gr00t.read_observation(gr00t.read(message), reader)
    assert turn.task.instruction == "go"
    np.testing.assert_array_equal(turn.observation.images["primary"], RED[0, 0])


def test_the_last_timestep_counts(reader):
    video = RED.copy()
    video[0, 1] = 7
    turn = gr00t.read_observation(gr00t.read(observed(np.asfortranarray(video))), reader)
    np.testing.assert_array_equal(turn.observation.images["primary"], video[0, 1])


def test_states_are_proprio_end_to_end_and_options_are_the_session_s(reader):
    state = {"arm": np.array([[[1, 2]]], np.float32), "gripper": np.array([[[3]]], np.float32)}
    observation = {"video": {"primary": RED}, "state": state, "language": {"task": [["go"]]}}
    message = packed({"data": {"observation": observation, "options": {"seed": 4, "session_id": "arm"}}})
    turn = gr00t.read_observation(gr00t.read(message), reader)
    np.testing.assert_array_equal(turn.observation.proprio, [1, 2, 3])
    assert (turn.seed, turn.session_id) == (4, "arm")


def head(text: bytes, data: bytes = b"") -> dict:
    return {"__ndarray_class__": True, "as_npy": b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data}


@pytest.mark.parametrize(
    "video",
    [
        3,
        b"x",
        {"as_npy": 3},
        {"__ndarray_class__": True, "as_npy": b"\x93NUMPY"},
        head(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        head(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,)}"),
        head(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", bytes(4)),
        head(b"__import__('os')"),
        np.concatenate([RED, RED]),
        RED[0, 0, 0],
        np.zeros((1, 0, 8, 8, 3), np.uint8),
    ],
    ids=lambda video: str(video)[:40],
)
def test_what_is_no_video_is_refused(reader, video):
    with pytest.raises((ProtocolError, ImageError)):
        gr00t.read_observation(gr00t.read(observed(video)), reader)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        packed([]),
        packed({"endpoint": "kill"}),
        packed({"endpoint": "shell"}),
        packed({"data": []}),
        packed({"data": {"observation": 3}}),
        packed({"data": {"observation": {"video": 3}}}),
        packed({"data": {"observation": {}, "options": 3}}),
    ],
)
def test_what_is_no_request_is_refused(reader, message):
    with pytest.raises((ProtocolError, InstructionError)):
        gr00t.read_observation(gr00t.read(message), reader)


def test_the_observation_itself_may_be_the_data_with_a_session_s_fields(reader):
    turn = gr00t.read_observation(gr00t.read(bare(seed=4)), reader)
    assert set(turn.observation.images) == {"primary", "wrist"}
    np.testing.assert_array_equal(turn.observation.proprio, [0, 0, 1])
    assert (turn.task.instruction, turn.seed) == ("go", 4)


def test_an_instruction_may_have_any_name_and_two_are_refused(reader):
    for said in ({"language.what": "go"}, {"annotation.human.coarse_action": [["go"]], "annotation.human.validity": 1}):
        message = packed({"data": {"video.front": RED, **said}})
        assert gr00t.read_observation(gr00t.read(message), reader).task.instruction == "go"
    with pytest.raises(ProtocolError, match="are both the instruction"):
        gr00t.read_observation(gr00t.read(bare(**{"annotation.human.coarse_action": "stop"})), reader)


def test_a_reset_is_checked(reader):
    reset = gr00t.read(packed({"endpoint": "reset", "data": {"options": {"seed": 3, "unnorm_key": "echo"}}}))
    assert gr00t.read_reset(reset, reader).seed == 3
    assert gr00t.read_reset(reset, reader).settings == {"dataset": "echo"}
    with pytest.raises(RequestError, match="seed"):
        gr00t.read_reset(gr00t.read(packed({"endpoint": "reset", "data": {"options": {"seed": "x"}}})), reader)


def test_the_modality_config_says_what_is_taken_and_given():
    found = unpacked(gr00t.write_modality_config(EchoAdapter().spec))
    assert found["video"]["as_json"] == {"delta_indices": [0], "modality_keys": ["primary", "wrist"]}
    assert found["action"]["as_json"]["delta_indices"] == [0, 1, 2, 3]
    assert found["action"]["as_json"]["modality_keys"][-1] == "gripper"
    as_text = unpacked(gr00t.write_modality_config(EchoAdapter().spec, as_text=True))
    assert {name: json.loads(config["as_json"]) for name, config in as_text.items()} == {
        name: config["as_json"] for name, config in found.items()
    }


def test_an_error_says_what_to_do():
    found = unpacked(gr00t.write_error(Superseded("too old", hint="reset starts over"), "7"))
    assert found == {"error": "superseded: too old; reset starts over (request_id 7)"}


@pytest.fixture(scope="module")
def port():
    port = free_port()
    with serving(echo_app(zmq_port=port, max_body_mb=1)) as url:
        wait_until_healthy(url)
        yield port


class Client:
    """A REQ socket, as GR00T's client has."""

    def __init__(self, port: int):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REQ)
        self.socket.set(zmq.LINGER, 0)
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def ask(self, message: bytes, read=unpacked):
        self.socket.send(message)
        assert self.socket.poll(30_000), "no answer"
        return read(self.socket.recv())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.destroy()


def test_a_client_is_a_session(port):
    with Client(port) as robot:
        assert robot.ask(packed({"endpoint": "ping"}))["status"] == "ok"
        robot.ask(packed({"endpoint": "reset", "data": {"options": {"seed": 3}}}))
        answers = [robot.ask(observed()) for _ in range(2)]
    assert {name: array.shape for name, array in answers[0][0].items()} == dict.fromkeys(gr00t.ARM_KEYS, (1, 4, 1))
    found = [actions["gripper"][0, 0, 0] for actions, _ in answers]
    np.testing.assert_allclose(found, [noise(3, 0), noise(3, 1)], rtol=1e-6)
    assert [info["step"] for _, info in answers] == [0, 1]
    assert {"read", "queue", "infer", "write", "total"} <= set(answers[0][1]["timing_ms"])


def test_older_clients_get_their_own_names(port):
    with Client(port) as robot:
        actions, _ = robot.ask(flat())
    assert set(actions) == {f"action.{key}" for key in gr00t.ARM_KEYS}


def test_n15_s_clients_get_a_flat_map_without_an_axis_for_robots(port):
    with Client(port) as robot:
        actions = robot.ask(bare(seed=3))
        batched = robot.ask(bare(**{name: BARE[name][None] for name in BARE if not name.startswith("annotation.")}))
        assert "(request_id " in robot.ask(bare(**{"video.front": np.zeros(3)}))["error"]
    assert {name: array.shape for name, array in actions.items()} == {f"action.{key}": (4, 1) for key in gr00t.ARM_KEYS}
    np.testing.assert_allclose(actions["action.gripper"][0, 0], noise(3, 0), rtol=1e-6)
    assert {array.shape for array in batched.values()} == {(1, 4, 1)}


def test_n17_s_clients_get_maps_of_msgpack_numpy(port):
    observation = {"video": {"ego_view": RED}, "language": {"annotation.human.task_description": [["go"]]}}
    data = {"observation": observation, "options": {"seed": 3}}
    with Client(port) as robot:
        actions, info = robot.ask(as_n17({"endpoint": "get_action", "data": data}), from_n17)
        assert robot.ask(as_n17({"endpoint": "reset", "data": {"options": None}}), from_n17) == {"status": "ok"}
        wrong = as_n17({"endpoint": "get_action", "data": {"observation": {}, "options": None}})
        assert "(request_id " in robot.ask(wrong, from_n17)["error"]
    assert {name: array.shape for name, array in actions.items()} == dict.fromkeys(gr00t.ARM_KEYS, (1, 4, 1))
    assert (info["step"], info["seed"]) == (0, 3)


def test_the_modality_config_is_text_for_a_client_that_speaks_as_n15_does(port):
    question = packed({"endpoint": "get_modality_config"})
    with Client(port) as robot, Client(port) as other:
        assert isinstance(robot.ask(question)["video"]["as_json"], dict)
        robot.ask(bare())
        assert json.loads(robot.ask(question)["action"]["as_json"])["delta_indices"] == [0, 1, 2, 3]
        assert isinstance(other.ask(question)["video"]["as_json"], dict)


def test_an_error_is_answered_and_the_client_goes_on(port):
    with Client(port) as robot:
        for wrong in (b"\xc1", packed({"endpoint": "kill"}), observed(3)):
            assert "(request_id " in robot.ask(wrong)["error"]
        assert robot.ask(observed())[1]["step"] == 0


def test_clients_at_once_get_what_each_gets_alone(port):
    def episode(seed: int) -> list:
        with Client(port) as robot:
            robot.ask(packed({"endpoint": "reset", "data": {"options": {"seed": seed}}}))
            return [robot.ask(observed())[0]["gripper"].tolist() for _ in range(20)]

    alone, together = [episode(seed) for seed in range(4)], [[]] * 4

    def run(seed: int) -> None:
        together[seed] = episode(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_a_message_over_the_limit_ends_nothing_but_its_own_connection(port):
    with Client(port) as robot:
        robot.socket.send(bytes(2 * 2**20))
        assert not robot.socket.poll(300)
    with Client(port) as robot:
        assert robot.ask(packed({"endpoint": "ping"}))["status"] == "ok"


@pytest.mark.anyio
async def test_a_port_that_is_taken_is_named():
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        app = echo_app(zmq_port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match=r"VLA_ZMQ_PORT: cannot listen on 127.0.0.1:"):
            async with app.router.lifespan_context(app):
                pass


def test_what_is_refused_is_one_line_of_the_log(port, log_lines):
    with Client(port) as robot:
        refused = robot.ask(observed(said=""))["error"]
    request_id = refused.rpartition("request_id ")[2].rstrip(")")
    (line,) = log_lines(request_id)
    assert line.startswith("zmq client=127.0.0.1 session=zmq:")
    assert line.endswith(f'code=instruction reason="there is no instruction" request_id={request_id}')


def test_a_session_ends_when_its_client_names_another(port):
    with Client(port) as robot:
        answers = [robot.ask(observed(session_id=session_id)) for session_id in ("zmq-0", "zmq-1", "zmq-1")]
        assert [info["step"] for _, info in answers] == [0, 0, 1]
        assert "ended when this connection named another" in robot.ask(observed(session_id="zmq-0"))["error"]


def test_settings_of_a_reset_hold_for_its_episode(port):
    with Client(port) as robot:
        plain = robot.ask(observed(seed=1))[0]["x"]
        robot.ask(packed({"endpoint": "reset", "data": {"options": {"dataset": "echo_doubled"}}}))
        np.testing.assert_allclose(robot.ask(observed())[0]["x"], 1 + 2 * plain)
        robot.ask(packed({"endpoint": "reset", "data": {}}))
        np.testing.assert_array_equal(robot.ask(observed())[0]["x"], plain)

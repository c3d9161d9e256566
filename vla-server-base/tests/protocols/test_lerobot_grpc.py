"""LeRobot's asynchronous inference: messages as its client writes and reads them, then a live server."""

import asyncio
import builtins
import contextlib
import dataclasses
import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest
from echo_server import echo_app
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot_pickles import Payload, TimedAction, pickled_observation, pickled_setup, timed_actions

from vla_server_base.config import ConfigError
from vla_server_base.contract import Action
from vla_server_base.errors import (
    BodyTooLarge,
    ImageError,
    InstructionError,
    ProtocolError,
    RequestError,
    VLAError,
)
from vla_server_base.protocols import lerobot
from vla_server_base.server.transports import grpc_calls, lerobot_clients, lerobot_grpc
from vla_server_base.server.transports.lerobot_grpc import serving_lerobot
from vla_server_base.sessions.requests import StepResult
from vla_server_base.testing import EchoAdapter

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)
SEEN = {"a.pos": 0.1, "b.pos": np.float32(0.2), "c.pos": 0.3, "primary": RED, "task": "go"}
BEGIN, MIDDLE, END = 1, 2, 3


def with_data(data: bytes, number: int = 2) -> bytes:
    """A protobuf message with one field of bytes."""
    size, length = len(data), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def chunk(state: int, data: bytes) -> bytes:
    return bytes([1 << 3, state]) + with_data(data)


def setup_message(**fields) -> bytes:
    return with_data(pickled_setup(**fields), number=1)


def joined(*chunks: bytes, max_bytes: int = 100_000) -> lerobot.ChunkedMessage:
    message = lerobot.ChunkedMessage(max_bytes)
    assert [message.add(part) for part in chunks] == [False] * (len(chunks) - 1) + [True]
    return message


def test_chunks_are_joined_and_begin_begins_anew():
    assert joined(chunk(END, b"all")).joined() == b"all"
    assert joined(chunk(BEGIN, b"a"), chunk(MIDDLE, b"b"), chunk(END, b"c")).joined() == b"abc"
    assert joined(chunk(MIDDLE, b"lost"), chunk(BEGIN, b"a"), chunk(END, b"c")).joined() == b"ac"


@pytest.mark.parametrize("wrong", [chunk(0, b"x"), chunk(4, b"x"), with_data(b"x"), b"\xff", b"\x12\x05x"])
def test_what_is_no_chunk_is_refused(wrong):
    with pytest.raises(ProtocolError):
        lerobot.ChunkedMessage(100).add(wrong)


def test_a_message_over_the_limit_is_refused_with_the_chunk_that_is_too_much():
    message = lerobot.ChunkedMessage(100)
    message.add(chunk(BEGIN, bytes(60)))
    with pytest.raises(BodyTooLarge, match="limit of 100 bytes"):
        message.add(chunk(MIDDLE, bytes(60)))


def test_a_setup_says_how_many_actions_and_which_numbers():
    setup = lerobot.read_setup(setup_message(actions_per_chunk=3, rename_map={"observation.images.lamp": "primary"}))
    assert (setup.actions_per_chunk, setup.state_names) == (3, ("a.pos", "b.pos", "c.pos"))
    assert (setup.named_model, setup.renamed["observation.images.lamp"]) == ("act someone/some-model", "primary")


@pytest.mark.parametrize("wrong", [{"actions_per_chunk": 0}, {"actions_per_chunk": "5"}, {"rename_map": {"x": 1}}])
def test_a_setup_that_makes_no_sense_is_refused_by_name(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        lerobot.read_setup(setup_message(**wrong))


@pytest.mark.parametrize("features", [{}, {"observation.state": 1}, {"observation.state": {"names": None}}])
def test_a_setup_without_the_states_names_has_none(features):
    assert lerobot.read_setup(setup_message(lerobot_features=features)).state_names == ()


def timed_step_of(
    reader, observation: dict = SEEN, setup: lerobot.LerobotSetup | None = None, **how
) -> lerobot.TimedStep:
    message = joined(chunk(END, pickled_observation(observation, **how)))
    return lerobot.read_observation(message, reader, setup or lerobot.LerobotSetup())


def test_an_observation_is_a_turn_at_its_timestep(reader):
    turn = timed_step_of(reader, timestep=7, must_go=False)
    assert (turn.timestep, turn.timestamp, turn.must_go) == (7, 10.0, False)
    request = turn.request
    assert (request.sequence, request.obs_time, request.task.instruction) == (7, 10.0, "go")
    np.testing.assert_array_equal(request.observation.images["primary"], RED)
    assert request.observation.proprio is not None
    np.testing.assert_allclose(request.observation.proprio, [0.1, 0.2, 0.3])


def test_a_chunk_is_continued_where_the_policys_are(reader):
    assert timed_step_of(reader).request.executes_chunks
    continuing = dataclasses.replace(reader, spec=dataclasses.replace(reader.spec, execution="aligned"))
    assert not timed_step_of(continuing).request.executes_chunks


def test_the_state_is_in_the_order_of_the_setup_or_else_as_sent(reader):
    mixed = {"b.pos": 2.0, "current": 9.0, "c.pos": 3.0, "a.pos": 1.0, "primary": RED, "task": "go"}
    setup = lerobot.LerobotSetup(state_names=("a.pos", "b.pos", "c.pos"))
    np.testing.assert_array_equal(timed_step_of(reader, mixed, setup).request.observation.proprio, [1, 2, 3])
    with pytest.raises(RequestError, match="got 4"):
        timed_step_of(reader, mixed)


def test_a_camera_may_be_renamed(reader):
    seen = {"lamp": RED, "task": "go"}
    with pytest.raises(ProtocolError, match="no image for the camera 'primary'; the message has: lamp"):
        timed_step_of(reader, seen)
    setup = lerobot.LerobotSetup(renamed={"observation.images.lamp": "observation.images.primary"})
    assert "primary" in timed_step_of(reader, seen, setup).request.observation.images


@pytest.mark.parametrize("picture", [RED.transpose(2, 0, 1), RED / 255, (RED / np.float32(255)).transpose(2, 0, 1)])
def test_a_picture_in_another_form_is_the_same(reader, picture):
    request = timed_step_of(reader, SEEN | {"primary": picture}).request
    np.testing.assert_array_equal(request.observation.images["primary"], RED)


def test_two_cameras_that_are_renamed_alike_are_refused(reader):
    lamp, desk, primary = (f"observation.images.{camera}" for camera in ("lamp", "desk", "primary"))
    with pytest.raises(ProtocolError, match=r"desk and another camera are both renamed to observation.images.primary"):
        timed_step_of(
            reader,
            {"lamp": RED, "desk": RED, "task": "go"},
            lerobot.LerobotSetup(renamed={lamp: primary, desk: primary}),
        )


def test_a_robots_values_name_no_session(reader):
    request = timed_step_of(reader, SEEN | {"session_id": "another's", "reset": True, "execution": "chunk"}).request
    assert (request.session_id, request.reset, request.settings) == (None, False, {})


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"task": ""}, InstructionError),
        ({"task": ("go", "stop")}, InstructionError),
        ({"primary": RED.astype(np.float32)}, ImageError),
        ({"primary": RED[..., 0]}, ImageError),
        ({"primary": "red"}, ProtocolError),
        ({"primary": Payload(os.getcwd)}, ProtocolError),
        ({"a.pos": float("nan")}, RequestError),
    ],
)
def test_an_observation_that_cannot_be_answered_is_refused(reader, wrong, error):
    with pytest.raises(error):
        timed_step_of(reader, SEEN | wrong)


@pytest.mark.parametrize("timestep", [-1, 2**31, 1.5, None])
def test_a_timestep_that_is_none_is_refused(reader, timestep):
    with pytest.raises(RequestError, match="timestep"):
        timed_step_of(reader, timestep=timestep)


def result_with(actions: np.ndarray) -> StepResult:
    return StepResult(
        action=Action(action=actions[0], action_names=("x",) * 7, action_units=("m",) * 7, actions=actions),
        dataset="echo",
        action_format="standard",
        session_id="arm",
        step=0,
        seed=7,
        sequence=5,
        obs_time=None,
        asked_policy=True,
    )


def actions_of(message: bytes) -> list[TimedAction]:
    """The actions in an Actions message."""
    assert message[:1] == with_data(b"", number=1)[:1]
    return timed_actions(message[message.index(b"\x80\x03") :])


def test_an_answer_is_a_list_of_timed_actions_from_the_observations_timestep_on(reader):
    actions = np.arange(28.0).reshape(4, 7) / 3
    found = actions_of(
        lerobot.write_actions(
            timed_step_of(reader, timestep=5), result_with(actions), lerobot.LerobotSetup(), reader.spec
        )
    )
    assert [action.timestep for action in found] == [5, 6, 7, 8]
    np.testing.assert_allclose([action.timestamp for action in found], 10 + np.arange(4) / 30)
    np.testing.assert_array_equal([action.action for action in found], actions.astype(np.float32))


def test_times_and_number_of_actions_follow_from_what_the_policy_says(reader):
    step, setup, result = timed_step_of(reader, timestep=0), lerobot.LerobotSetup(), result_with(np.zeros((4, 7)))
    spec = replace(reader.spec, control_hz=50.0)
    found = actions_of(lerobot.write_actions(step, result, setup, spec))
    np.testing.assert_allclose([action.timestamp for action in found], 10 + np.arange(4) / 50)
    spec = replace(reader.spec, execution="chunk", execution_horizon=3)
    assert len(actions_of(lerobot.write_actions(step, result, setup, spec))) == 3
    asked = lerobot.LerobotSetup(actions_per_chunk=2)
    assert len(actions_of(lerobot.write_actions(step, result, asked, spec))) == 2


def test_a_state_of_the_policy_s_own_names_is_put_in_its_order(reader):
    named = replace(reader, spec=replace(reader.spec, proprio_names=("c.pos", "a.pos", "b.pos")))
    message = joined(chunk(END, pickled_observation(SEEN)))
    for names in ((), ("a.pos", "b.pos", "c.pos")):
        step = lerobot.read_observation(message, named, lerobot.LerobotSetup(state_names=names))
        proprio = step.request.observation.proprio
        assert proprio is not None
        np.testing.assert_allclose(proprio, [0.3, 0.1, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (("a.pos", "b.pos", "d.pos"), "the robot's state lacks d.pos of the policy's, and has c.pos instead"),
        (("a.pos", "b.pos", "c.pos", "d.pos"), "the robot's state lacks d.pos of the policy's$"),
    ],
)
def test_a_state_with_some_of_the_policy_s_names_is_refused_as_no_order_is_known(reader, own, said):
    named = replace(reader, spec=replace(reader.spec, proprio_names=own))
    with pytest.raises(RequestError, match=said):
        lerobot.read_observation(joined(chunk(END, pickled_observation(SEEN))), named, lerobot.LerobotSetup())


def test_an_answer_has_no_more_actions_than_the_client_asks_for(reader):
    setup = lerobot.LerobotSetup(actions_per_chunk=2)
    assert (
        len(actions_of(lerobot.write_actions(timed_step_of(reader), result_with(np.zeros((4, 7))), setup, reader.spec)))
        == 2
    )


@settings(max_examples=200)
@given(st.binary(max_size=100))
def test_any_bytes_are_a_chunk_and_a_setup_or_refused(message):
    for read in (lerobot.ChunkedMessage(1000).add, lerobot.read_setup):
        with contextlib.suppress(RequestError):
            read(message)


@contextmanager
def serving_robots(adapter=None, **config) -> Iterator[int]:
    """A server for LeRobot's clients on a thread, and its port."""
    bound: Future[int] = Future()
    ended = threading.Event()

    async def serve() -> None:
        app = echo_app(adapter, **config)
        async with app.router.lifespan_context(app), serving_lerobot(app.state.service, 0) as port:
            bound.set_result(port)
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield bound.result(30)
    finally:
        ended.set()
        thread.join()


class Robot:
    """A connection as LeRobot's client makes it."""

    def __init__(self, channel: grpc.Channel):
        self._channel = channel

    def call(self, name: str, message: bytes = b"") -> bytes:
        return self._channel.unary_unary(f"/transport.AsyncInference/{name}")(message, timeout=30)

    def stream(self, chunks: Iterator[bytes]) -> bytes:
        return self._channel.stream_unary("/transport.AsyncInference/SendObservations")(chunks, timeout=30)

    def send_chunks(self, *chunks: bytes) -> bytes:
        return self.stream(iter(chunks))

    def send(self, observation: dict = SEEN, **how) -> bytes:
        pickled = pickled_observation(observation, **how)
        middle = len(pickled) // 2
        return self.send_chunks(chunk(BEGIN, pickled[:middle]), chunk(END, pickled[middle:]))

    def actions(self) -> list[TimedAction]:
        message = self.call("GetActions")
        return actions_of(message) if message else []

    def first_rows(self, *timesteps: int) -> list[list[float]]:
        """What the echo says of each of some turns."""
        rows = []
        for timestep in timesteps:
            self.send(timestep=timestep)
            rows.append(self.actions()[0].action.tolist())
        return rows


@contextmanager
def robot_of(port: int, **setup) -> Iterator[Robot]:
    # A pool of its own, or the connections of one process were one.
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        robot = Robot(channel)
        assert robot.call("Ready") == b""
        assert robot.call("SendPolicyInstructions", setup_message(**setup)) == b""
        yield robot


@pytest.fixture(scope="module")
def port():
    with serving_robots(max_body_mb=1, max_image_pixels=100_000) as bound:
        yield bound


def refused(code: grpc.StatusCode, said: str):
    return pytest.raises(grpc.RpcError, match=f"(?s)StatusCode.{code.name}.*{said}")


INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_a_robot_is_answered_with_the_chunk_from_now_on(port):
    with robot_of(port, actions_per_chunk=3) as robot:
        robot.send(timestep=4)
        found = robot.actions()
    assert [action.timestep for action in found] == [4, 5, 6]
    np.testing.assert_allclose(found[0].action[[0, 1, 2]], [1, 0, 0])
    np.testing.assert_allclose(found[2].action[0], 3)


def test_a_connection_is_a_session(port):
    with robot_of(port) as robot, robot_of(port) as other:
        rows = robot.first_rows(0, 1, 2)
        np.testing.assert_allclose([row[5] for row in rows], np.array([1, 2, 2]) + 0.6, rtol=1e-6)
        assert other.first_rows(0)[0][5] == pytest.approx(1.6)


def test_ready_begins_anew_for_this_robot_alone(port):
    with robot_of(port) as robot, robot_of(port) as other:
        robot.first_rows(5)
        other.first_rows(5)
        robot.call("Ready")
        assert robot.first_rows(0)[0][5] == pytest.approx(1.6)
        assert other.first_rows(6)[0][5] == pytest.approx(2.6)


def test_the_newest_observation_is_answered(port):
    with robot_of(port) as robot:
        for timestep in range(3):
            robot.send(timestep=timestep)
        assert robot.actions()[0].timestep == 2
        assert robot.actions() == []


def test_an_answered_timestep_is_answered_once_more_only_where_it_must_be(port):
    with robot_of(port) as robot:
        robot.send(timestep=1)
        first = robot.actions()
        robot.send(timestep=1, must_go=False)
        assert robot.actions() == []
        robot.send(timestep=1, must_go=True)
        np.testing.assert_array_equal(robot.actions()[0].action, first[0].action)


def test_what_is_refused_is_told_and_logged_and_the_connection_goes_on(port, caplog):
    caplog.set_level(logging.INFO)
    with robot_of(port) as robot:
        with refused(INVALID, "there is no image for the camera 'primary'.*request_id"):
            robot.send({"task": "go"})
        with refused(INVALID, r"protocol: the pickle names 'posix\.system'"):
            robot.send(SEEN | {"x": Payload(os.system, "true")})
        with refused(INVALID, "the stream ended"):
            robot.send_chunks(chunk(BEGIN, b"x"))
        with refused(INVALID, "cannot be parsed as protobuf's Observation"):
            robot.send_chunks(b"\xff")
        with refused(INVALID, "cannot be read as a pickle"):
            robot.call("SendPolicyInstructions", b"")
        assert len(robot.first_rows(0)) == 1
    lines = [record.getMessage() for record in caplog.records if "code=" in record.getMessage()]
    assert len(lines) == 5
    assert "grpc call=SendObservations status=INVALID_ARGUMENT" in lines[0]
    assert ' code=protocol reason="there is no image for the camera' in lines[0]


def test_an_older_observation_is_told_that_it_is(port):
    with robot_of(port) as robot:
        robot.first_rows(5)
        robot.send(timestep=4)
        with refused(grpc.StatusCode.ABORTED, "superseded: observation 4 is older than 5"):
            robot.actions()
        assert len(robot.first_rows(6)) == 1


def test_an_observation_over_the_limit_is_refused_and_so_is_a_chunk(port):
    with robot_of(port) as robot:
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "body_too_large"):
            robot.send_chunks(chunk(BEGIN, bytes(2**19)), chunk(MIDDLE, bytes(2**19)), chunk(END, bytes(2**19)))
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"):
            robot.send_chunks(chunk(END, bytes(2**22)))
        assert len(robot.first_rows(0)) == 1


def test_the_model_that_a_client_names_is_in_the_log_and_nowhere_else(port, caplog):
    caplog.set_level(logging.INFO)
    with robot_of(port, pretrained_name_or_path="x\ny" + "z" * 200) as robot:
        robot.first_rows(0)
    (line,) = [record.getMessage() for record in caplog.records if "the model that is loaded" in record.message]
    assert r"'act x\nyz" in line
    assert len(line) < 250


def test_robots_at_once_get_what_each_gets_alone(port):
    def episode(red: int) -> list:
        with robot_of(port) as robot:
            seen = SEEN | {"primary": np.full((8, 8, 3), (red, 0, 0), np.uint8)}
            robot.send(seen)
            return [robot.actions()[0].action[:6].tolist(), *(row[:6] for row in robot.first_rows(1, 2, 3))]

    alone = [episode(10 * robot) for robot in range(4)]
    together = [None] * 4
    threads = [
        threading.Thread(target=lambda robot=robot: together.__setitem__(robot, episode(10 * robot)))
        for robot in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_any_method_but_the_four_is_unknown(port):
    with robot_of(port) as robot, refused(grpc.StatusCode.UNIMPLEMENTED, ""):
        robot.call("Kill")


class SlowEcho(EchoAdapter):
    """An echo that answers when it is let."""

    def __init__(self):
        self.may_answer = threading.Event()
        self.may_answer.set()

    def predict(self, batch):
        self.may_answer.wait(30)
        return super().predict(batch)


def test_an_answer_that_takes_longer_than_a_call_is_the_next_calls(monkeypatch):
    monkeypatch.setattr(lerobot_clients, "ANSWER_S", 0.2)
    adapter = SlowEcho()
    with serving_robots(adapter) as port, robot_of(port) as robot:
        adapter.may_answer.clear()
        robot.send(timestep=3)
        assert robot.actions() == []
        robot.send(timestep=4)
        adapter.may_answer.set()
        monkeypatch.setattr(lerobot_clients, "ANSWER_S", 30.0)
        assert [robot.actions()[0].timestep for _ in range(2)] == [3, 4]


def test_ready_ends_a_call_that_waits_for_actions(monkeypatch, port):
    monkeypatch.setattr(lerobot_clients, "ANSWER_S", 30.0)
    with robot_of(port) as robot:
        asked: Future[list] = Future()
        thread = threading.Thread(target=lambda: asked.set_result(robot.actions()))
        thread.start()
        with pytest.raises(FutureTimeoutError):
            asked.result(0.5)
        robot.call("Ready")
        assert asked.result(20) == []
        thread.join()


def test_an_observation_that_does_not_come_is_waited_for_so_long(monkeypatch, port):
    monkeypatch.setattr(lerobot_grpc, "TRANSFER_S", 0.2)
    never = threading.Event()

    def chunks():
        yield chunk(BEGIN, b"x")
        never.wait(20)

    with (
        robot_of(port) as robot,
        refused(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded: the observation had not come"),
    ):
        robot.stream(chunks())
    never.set()


def test_robots_are_bounded_in_number_and_idle_ones_forgotten():
    with serving_robots(max_connections=1, session_idle_s=2.0) as port, robot_of(port) as robot:
        with refused(grpc.StatusCode.UNAVAILABLE, "overloaded: 1 robots are connected"), robot_of(port):
            pass
        robot.first_rows(0)
        threading.Event().wait(2.5)
        with robot_of(port) as other:
            assert other.first_rows(0)[0][5] == pytest.approx(1.6)


class SlowToLoad(EchoAdapter):
    """An echo that takes a moment to load."""

    def load_model(self, model_id, device, cache_dir):
        threading.Event().wait(0.5)


def test_a_robot_waits_for_a_policy_that_loads():
    with serving_robots(SlowToLoad()) as port, robot_of(port) as robot:
        assert len(robot.first_rows(0)) == 1


class BrokenEcho(EchoAdapter):
    """An echo that cannot be loaded."""

    def load_model(self, model_id, device, cache_dir):
        raise OSError("no such file")


def test_a_robot_is_told_that_there_is_no_policy():
    told = refused(grpc.StatusCode.UNAVAILABLE, "model_unavailable")
    with serving_robots(BrokenEcho()) as port, told, robot_of(port):
        pass


def test_a_port_that_is_taken_is_said(port):
    async def serve_again() -> None:
        app = echo_app()
        async with app.router.lifespan_context(app), serving_lerobot(app.state.service, port):
            pass

    with pytest.raises(ConfigError, match=f"VLA_LEROBOT_PORT={port}"):
        asyncio.run(serve_again())


def test_without_grpc_it_is_said_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def without_grpc(name, *arguments, **named):
        if name.partition(".")[0] == "grpc":
            raise ModuleNotFoundError("No module named 'grpc'", name="grpc")
        return real_import(name, *arguments, **named)

    monkeypatch.delitem(sys.modules, lerobot_grpc.__name__)
    monkeypatch.setattr(builtins, "__import__", without_grpc)
    with pytest.raises(ConfigError, match="needs grpc") as told:
        importlib.import_module(lerobot_grpc.__name__)
    assert "uv sync --extra lerobot" in told.value.hint


def test_every_status_of_an_error_is_a_code():
    def all_kinds(kind: type[VLAError]) -> Iterator[type[VLAError]]:
        yield kind
        for narrower in kind.__subclasses__():
            yield from all_kinds(narrower)

    statuses = {kind.status for kind in all_kinds(VLAError)}
    assert statuses - grpc_calls.CODES.keys() <= {400, 403, 405, 415, 426, 431}, "which HTTP alone has"

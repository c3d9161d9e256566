"""The client against a live server: actions, steps, episodes, and the server's errors."""

import threading
from contextlib import contextmanager
from types import MappingProxyType

import httpx
import numpy as np
import pytest
from echo_server import echo_app
from tcp_proxy import socket_url
from websockets.sync.server import serve

from vla_client import ObservationError, Policy, PolicyError, ProtocolError, SessionLost, Unreachable
from vla_client.message_pack import pack
from vla_server_base.config import ServerConfig
from vla_server_base.contract import CameraSpec
from vla_server_base.server.app import create_vla_app
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.echo import instruction_number, noise

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)
# One red pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
SEEN = {"primary": RED, "instruction": "go"}


class DemandingPolicy(EchoAdapter):
    """The echo policy, which requires what it takes, and executes its chunks."""

    cameras = ("top", "left_wrist")
    changes = MappingProxyType(
        {
            "cameras": tuple(CameraSpec(name=name, height=8, width=8, required=True) for name in cameras),
            "requires_proprio": True,
            "execution": "chunk",
        }
    )


@pytest.fixture(scope="module")
def demanding_url():
    app = create_vla_app(DemandingPolicy(), ServerConfig(scene_workers=1), model_id="echo")
    with serving(app) as base_url:
        yield socket_url(base_url)


@pytest.fixture
def policy(url):
    with Policy(url, seed=3) as policy:
        yield policy


def test_the_metadata_describe_the_served_policy(policy):
    metadata = policy.metadata
    assert (metadata.model, metadata.window, metadata.action_horizon, metadata.action_dim) == ("echo", 2, 4, 7)
    assert metadata.camera_names == ("primary", "wrist")
    assert metadata.action_units[0] == "m"
    assert "observation/image" in metadata.observation_keys["primary"]


def test_act_returns_the_action_to_execute_now_and_nothing_else(policy):
    action = policy.act({"primary": RED, "wrist": RED}, "go", proprio=np.array([1, 2, 3.5]))
    expected = [1, 0, 0, 1 / 3, instruction_number("go"), 1 + 6.5, noise(3, 0)]
    np.testing.assert_allclose(action, expected)
    assert action.flags.writeable


def test_a_single_array_is_the_first_cameras_image(policy):
    np.testing.assert_array_equal(policy.act(RED, "go")[:4], [1, 0, 0, 0])


def test_infer_returns_the_whole_answer(policy):
    answer = policy.infer({"observation/image": RED, "prompt": "go"})
    assert answer["actions"].shape == (4, 7)
    assert (answer["session"]["step"], answer["session"]["seed"]) == (0, 3)
    assert answer["session"]["id"] == policy.session_id
    assert answer["server_timing"]["total_ms"] > 0


def test_calls_are_steps_of_one_session(policy):
    answers = [policy.infer(SEEN) for _ in range(3)]
    assert [answer["session"]["step"] for answer in answers] == [0, 1, 2]
    assert policy.sequence == 2


def test_a_reset_begins_the_same_episode_again_and_with_a_seed_another(policy):
    first = [policy.act(RED, "go") for _ in range(3)]
    policy.reset()
    np.testing.assert_array_equal([policy.act(RED, "go") for _ in range(3)], first)
    policy.reset(seed=4)
    assert policy.act(RED, "go")[6] == noise(4, 0)


def test_another_instruction_begins_an_episode_too(policy):
    policy.act(RED, "go")
    assert policy.infer({**SEEN, "instruction": "stop"})["session"]["step"] == 0
    assert policy.infer({**SEEN, "instruction": "stop"})["session"]["step"] == 1


def test_a_seed_that_is_left_out_is_drawn(url):
    with Policy(url) as one, Policy(url) as another:
        assert one.seed != another.seed
        assert one.act(RED, "go")[6] == noise(one.seed, 0)


def test_a_chunk_is_executed_for_the_execution_horizon(url):
    with Policy(url, execution="chunk", execution_horizon=2, dataset="echo_doubled") as policy:
        asked = [policy.infer(SEEN)["session"]["asked_policy"] for _ in range(3)]
        policy.reset()
        assert asked == [True, False, True]
        assert policy.act(RED, "go")[0] == 3


def test_steps_can_be_skipped_and_the_last_one_repeated(policy):
    policy.infer(SEEN)
    skipped = policy.infer(SEEN, sequence=5)
    again = policy.infer(SEEN, sequence=policy.sequence)
    assert skipped["session"]["step"] == again["session"]["step"] == 5
    np.testing.assert_array_equal(again["actions"], skipped["actions"])


def test_a_name_that_is_in_use_begins_an_episode_too(url):
    body = {"session_id": "arm-1", "sequence": 57, "instruction": "go", "image": PNG}
    assert httpx.post(http_url(url) + "/predict", json=body).is_success
    with Policy(url, session_id="arm-1", seed=1) as policy:
        assert [policy.infer(SEEN)["session"]["step"] for _ in range(2)] == [0, 1]


def test_closing_ends_the_session(url):
    with Policy(url, session_id="closing") as policy:
        policy.infer(SEEN)
        assert "closing" in sessions_at(url)
    assert "closing" not in sessions_at(url)
    assert policy.infer(SEEN)["session"]["step"] == 0
    policy.close()


def http_url(url: str) -> str:
    return url.replace("ws", "http", 1)


def sessions_at(url: str) -> set[str]:
    return {session["id"] for session in httpx.get(http_url(url) + "/sessions").json()["sessions"]}


def test_a_refusal_has_the_servers_code_and_request_id(policy):
    with pytest.raises(PolicyError, match="expected 3 numbers") as raised:
        policy.infer({**SEEN, "proprio": [1.0]})
    assert raised.value.code == "invalid_request"
    assert raised.value.message.startswith("proprio: expected 3 numbers, got 1; ")
    assert len(raised.value.request_id or "") == 32
    assert policy.infer(SEEN)["session"]["step"] == 0


def test_a_passed_deadline_has_its_own_code(policy):
    with pytest.raises(PolicyError) as raised:
        policy.infer(SEEN, deadline_ms=1e-3)
    assert raised.value.code == "deadline_exceeded"
    assert policy.infer(SEEN, sequence=policy.sequence)["session"]["step"] == 0


def test_a_superseded_step_has_its_own_code(policy):
    policy.infer(SEEN, sequence=5)
    with pytest.raises(PolicyError) as raised:
        policy.infer(SEEN, sequence=4)
    assert raised.value.code == "superseded"


def test_a_session_that_made_room_for_another_is_lost():
    with serving(echo_app(max_sessions=1)) as base_url, Policy(socket_url(base_url)) as one:
        one.infer(SEEN)
        with Policy(socket_url(base_url)) as another:
            assert another.infer(SEEN)["session"]["step"] == 0
        with pytest.raises(SessionLost):
            one.infer(SEEN)


def test_a_server_with_too_many_connections_is_tried_until_one_ends():
    with serving(echo_app(max_connections=1)) as base_url:
        one = Policy(socket_url(base_url))
        with pytest.raises(Unreachable, match="HTTP 503, overloaded: 1 connections are open"):
            Policy(socket_url(base_url), reconnect_s=0.2)
        threading.Timer(0.5, one.close).start()
        with Policy(socket_url(base_url), reconnect_s=30) as another:
            assert another.infer(SEEN)["session"]["step"] == 0


def test_any_other_text_becomes_the_message():
    error = PolicyError("Traceback: it broke")
    assert (error.code, error.message, error.request_id) == ("unknown", "Traceback: it broke", None)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({**SEEN, "reset": True, "seed": 3}, "reset, seed"),
        ({**SEEN, "wrist": object()}, "object"),
        ({**SEEN, "number": 2**70}, "cannot be sent"),
    ],
)
def test_an_observation_that_cannot_be_sent_is_refused(policy, observation, message):
    with pytest.raises(ObservationError, match=message):
        policy.infer(observation)


def test_a_camera_that_the_policy_lacks_is_named(policy):
    with pytest.raises(ObservationError, match="this policy has no camera 'wrst'") as raised:
        policy.act({"primary": RED, "wrst": RED}, "go")
    assert raised.value.hint == "send images of: primary, wrist"


@pytest.mark.parametrize(
    ("images", "proprio", "missing"),
    [
        ({"top": RED}, [1.0, 2.0, 3.0], "left_wrist"),
        ({"top": RED, "left_wrist": RED}, None, "proprio"),
        (RED, None, "left_wrist, proprio"),
    ],
)
def test_what_the_policy_requires_is_named_before_anything_is_sent(demanding_url, images, proprio, missing):
    with Policy(demanding_url, seed=3) as policy:
        with pytest.raises(ObservationError, match=f"requires what is missing: {missing}$") as raised:
            policy.act(images, "go", proprio)
        assert raised.value.hint == "send it in every observation"
        whole = {"top": RED, "left_wrist": RED, "instruction": "go", "proprio": [1.0, 2.0, 3.0]}
        assert policy.infer(whole)["session"]["step"] == 0


def test_without_an_argument_the_execution_is_the_policys_own(demanding_url):
    with Policy(demanding_url) as policy:
        assert policy.execution == policy.metadata.execution == "chunk"
    with Policy(demanding_url, execution="ensemble") as policy:
        assert policy.execution == "ensemble"


def test_an_observation_over_the_servers_limit_is_refused_and_the_session_goes_on(policy):
    with pytest.raises(ObservationError, match="more than the server's limit"):
        policy.infer({**SEEN, "wrist": np.zeros((2000, 2000, 3), np.uint8)})
    assert policy.infer(SEEN)["session"]["step"] == 0


def test_an_address_without_a_policy_is_not_tried_again(url):
    with pytest.raises(Unreachable, match="HTTP 40"):
        Policy(url + "/nothing", reconnect_s=60)
    with pytest.raises(Unreachable, match="is not the address of a policy server"):
        Policy("tcp://127.0.0.1", reconnect_s=60)


@contextmanager
def another_server(greeting: bytes):
    def greet(socket) -> None:
        socket.send(greeting)
        socket.recv()

    with serve(greet, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("greeting", [pack({"policy": "pi0"}), pack([1]), b"\xc1"])
def test_a_server_of_another_protocol_is_a_protocol_error(greeting):
    with another_server(greeting) as url, pytest.raises(ProtocolError):
        Policy(url)

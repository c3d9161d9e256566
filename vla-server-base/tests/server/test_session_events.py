"""GET /sessions/{session_id}/events: what somebody sees who watches a robot's session."""

import threading

import httpx
import json_numpy
import numpy as np
import pytest
from echo_server import echo_app, encoded, of_one_colour, wait_until, wait_until_healthy
from raw_socket import connected, head, rest_of
from watching import events_in, next_step, watching
from websockets.sync.client import connect

from vla_client import Policy
from vla_client.message_pack import pack, unpack
from vla_server_base.request_inputs import encode_jpeg
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.sessions.answered_steps import MAX_BEHIND
from vla_server_base.testing import EchoAdapter

RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


class KeepingEcho(EchoAdapter):
    """An echo that keeps the newest observation of each request that reaches the policy."""

    def __init__(self):
        self.observations = []

    def preprocess_observation(self, window, dataset=None):
        self.observations.append(window.observations[-1])
        return super().preprocess_observation(window, dataset)


@pytest.fixture(scope="module")
def adapter():
    return KeepingEcho()


@pytest.fixture(scope="module")
def url(adapter):
    with serving(echo_app(adapter)) as url:
        wait_until_healthy(url)
        yield url


def take_step(client: httpx.Client, session: str, image: str = of_one_colour(255, 0, 0), **body) -> dict:
    body = {"instruction": "go", "image": image, "session_id": session, **body}
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def status_of(client: httpx.Client, session: str) -> dict:
    (status,) = [each for each in client.get("/sessions").json()["sessions"] if each["id"] == session]
    return status


def num_watchers(url: str) -> int:
    return httpx.get(f"{url}/load").json()["watchers"]


def test_a_watcher_sees_what_the_session_is_its_last_step_and_each_one_after_it(client, url):
    first = take_step(client, "all", seed=3)
    with watching(url, "all") as events:
        name, status = next(events)
        assert (name, status["id"], status["step"], status["seed"]) == ("session", "all", 1, 3)
        assert next_step(events)["action"] == first["action"]
        for number in (1, 2):
            reply = take_step(client, "all", sequence=number)
            step = next_step(events)
            assert (step["step"], step["sequence"], step["action"]) == (number, number, reply["action"])
            assert step["actions"] == reply["actions"]


def test_a_step_has_what_the_robot_asked_and_how_long_it_took(client, url):
    with_proprio = {"proprio": [0.5, 1.0, 2.0], "images": {"wrist": of_one_colour(0, 255, 0)}}
    reply = take_step(client, "details", **with_proprio)
    with watching(url, "details") as events:
        next(events)
        step = next_step(events)
    assert (step["instruction"], step["dataset"], step["proprio"]) == ("go", "echo", [0.5, 1.0, 2.0])
    assert step["action_names"] == reply["action_names"]
    assert set(step["images"]) == {"primary", "wrist"}
    assert step["timing_ms"]["infer"] == reply["timing_ms"]["infer"]
    assert 0 < step["timing_ms"]["total"] <= reply["timing_ms"]["total"]


def test_the_images_are_those_that_the_policy_got(client, url, adapter):
    take_step(client, "images", image=encoded(NOISE))
    with watching(url, "images") as events:
        next(events)
        images = next_step(events)["images"]
    assert images == {name: encode_jpeg(image) for name, image in adapter.observations[-1].images.items()}


def test_a_queued_action_is_a_step_that_did_not_ask_the_policy(client, url):
    take_step(client, "chunk", execution="chunk", execution_horizon=2)
    with watching(url, "chunk") as events:
        next(events)
        assert next_step(events)["asked_policy"]
        take_step(client, "chunk")
        queued = next_step(events)
    assert (queued["asked_policy"], queued["timing_ms"]["infer"]) == (False, 0)


def test_only_answered_steps_are_seen_and_each_once(client, url):
    take_step(client, "once", sequence=4)
    with watching(url, "once") as events:
        next(events)
        assert next_step(events)["sequence"] == 4
        take_step(client, "once", sequence=4)
        assert client.post("/predict", json={"session_id": "once", "sequence": 5}).status_code == 422
        take_step(client, "once", sequence=6)
        assert next_step(events)["sequence"] == 6


def test_an_id_may_have_slashes_and_end_in_events(client, url):
    for session in ("lab-1/arm:left", "lab/events"):
        take_step(client, session)
        with watching(url, session) as events:
            assert next(events)[1]["id"] == session


@pytest.mark.parametrize("how", ["deleted", "idle"])
def test_the_stream_ends_with_the_session(how):
    with serving(echo_app(session_idle_s=2)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        take_step(client, "ends")
        with watching(url, "ends") as events:
            assert [next(events)[0] for _ in range(2)] == ["session", "step"]
            if how == "deleted":
                client.delete("/sessions/ends")
            wait_until(lambda: not client.get("/sessions").json()["sessions"])
            ((name, status),) = events
    assert (name, status["id"]) == ("end", "ends")


def test_watching_changes_nothing_for_the_robot(client, url):
    alone = [take_step(client, "alone", seed=1) for _ in range(3)]
    take_step(client, "seen", seed=1)
    with watching(url, "seen") as events:
        next(events)
        seen = [take_step(client, "seen") for _ in range(2)]
        assert [next_step(events)["step"] for _ in range(3)] == [0, 1, 2]
    assert [each["actions"] for each in seen] == [each["actions"] for each in alone[1:]]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_watcher_can_only_read(client, method):
    take_step(client, "read-only")
    response = client.request(method, "/sessions/read-only/events", json={"instruction": "stop"})
    assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")


def test_a_page_of_another_origin_sees_nothing(client):
    take_step(client, "private")
    response = client.get("/sessions/private/events", headers={"Origin": "https://evil.example"})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")


def test_a_session_that_does_not_exist_is_named(client):
    response = client.get("/sessions/nobody/events")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "there is no session 'nobody'"


def test_no_session_is_shown_where_the_console_is_off():
    with serving(echo_app(console="off")) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        take_step(client, "arm")
        response = client.get("/sessions/arm/events")
        assert response.status_code == 404
        assert "VLA_CONSOLE=on" in response.json()["error"]["hint"]


def test_more_watchers_than_allowed_are_refused_until_one_leaves():
    with serving(echo_app(max_watchers=1)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        take_step(client, "arm")
        with watching(url, "arm"):
            refused = client.get("/sessions/arm/events")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert "VLA_MAX_WATCHERS" in refused.json()["error"]["hint"]
        wait_until(lambda: num_watchers(url) == 0)
        with watching(url, "arm") as events:
            assert next(events)[0] == "session"


def test_a_slow_watcher_loses_steps_and_the_robot_none(client, url):
    num_steps, image = 40, encoded(NOISE)
    take_step(client, "slow", image=image)
    with connected(url, SO_RCVBUF=4096) as wire:
        wire.sendall(head("GET /sessions/slow/events HTTP/1.1", "Connection: close"))
        wait_until(lambda: num_watchers(url) == 1)
        replies = [take_step(client, "slow", image=image) for _ in range(num_steps)]
        client.delete("/sessions/slow")
        lines = rest_of(wire).decode().splitlines()
    assert [reply["session"]["step"] for reply in replies] == list(range(1, num_steps + 1))
    seen = [content["step"] for name, content in events_in(iter(lines)) if name == "step"]
    assert seen == sorted(set(seen))
    assert seen[-MAX_BEHIND:] == list(range(num_steps - MAX_BEHIND + 1, num_steps + 1))
    assert len(seen) < num_steps


def encoders() -> int:
    """How many threads of this process encode steps."""
    return sum(thread.name.startswith("vla-watching") for thread in threading.enumerate())


def test_nothing_is_encoded_while_nobody_watches():
    with serving(echo_app()) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        before = encoders()
        for _ in range(3):
            take_step(client, "arm")
        assert encoders() == before
        with watching(url, "arm") as events:
            next(events)
            next_step(events)
            assert encoders() == before + 1


def test_a_robot_with_our_client_is_watched(client, url):
    with Policy(url.replace("http", "ws", 1), seed=3) as policy:
        actions = [policy.act(RED, "go")]
        with watching(url, policy.session_id) as events:
            assert next(events)[1]["protocol"] == "openpi"
            actions.append(policy.act(RED, "go"))
            steps = [next_step(events) for _ in range(2)]
    np.testing.assert_allclose([step["actions"][0] for step in steps], actions, rtol=1e-6)


def test_a_robot_with_openpis_client_is_watched_until_it_leaves(client, url):
    with connect(url.replace("http", "ws", 1), compression=None) as robot:
        robot.recv(timeout=30)
        actions = [answer_to(robot, {"observation/image": RED, "prompt": "push"})["actions"]]
        session = only_session(client, "openpi")
        with watching(url, session) as events:
            assert next(events)[1]["instruction"] == "push"
            actions.append(answer_to(robot, {"observation/image": RED, "prompt": "push"})["actions"])
            steps = [next_step(events) for _ in range(2)]
            robot.close()
            assert next(events)[0] == "end"
    np.testing.assert_allclose([step["actions"] for step in steps], actions, rtol=1e-6)


def test_a_robot_with_vla_evals_client_is_watched(client, url):
    with connect(url.replace("http", "ws", 1) + "/vla-eval", compression=None) as robot:
        observation = {"images": {"agentview": RED}, "task_description": "go"}
        for seq in (1, 2):
            answer = answer_to(robot, {"type": "observation", "payload": observation, "seq": seq, "timestamp": 0.0})
        with watching(url, only_session(client, "vla-eval")) as events:
            next(events)
            step = next_step(events)
    assert step["step"] == 1
    np.testing.assert_allclose(step["actions"][0], answer["payload"]["actions"], rtol=1e-6)


def test_a_robot_at_openvlas_address_is_watched(client, url):
    reply = client.post("/act", content=json_numpy.dumps({"image": RED, "instruction": "go"}))
    assert reply.status_code == 200, reply.text
    with watching(url, only_session(client, "openvla")) as events:
        next(events)
        np.testing.assert_allclose(next_step(events)["actions"][0], json_numpy.loads(reply.text), rtol=1e-6)


def answer_to(robot, message: dict) -> dict:
    robot.send(pack(message))
    return unpack(robot.recv(timeout=30))


def only_session(client: httpx.Client, protocol: str) -> str:
    (session,) = [each["id"] for each in client.get("/sessions").json()["sessions"] if each["protocol"] == protocol]
    return session


def test_the_list_says_who_is_connected_and_how_fast_the_steps_come(client):
    replies = [take_step(client, "rate") for _ in range(5)]
    status = status_of(client, "rate")
    assert (status["client"], status["protocol"], status["steps_per_s"]) == ("127.0.0.1", "http", 0.5)
    assert 0 < status["last_ms"] <= replies[-1]["timing_ms"]["total"]


def test_a_session_without_an_answered_step_has_no_time(client):
    client.post("/reset", json={})
    assert status_of(client, "act:127.0.0.1")["last_ms"] is None

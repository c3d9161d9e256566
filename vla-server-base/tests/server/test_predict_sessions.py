"""Sessions by POST /predict: what a robot's client sees of them."""

import base64
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing.echo import noise

SCENE = '<mujoco><worldbody><camera name="primary" pos="0 0 2"/><geom size="1" rgba="1 0 0 1"/></worldbody></mujoco>'


def red(level: int) -> str:
    return of_one_colour(level, 0, 0)


def turn(client: httpx.Client, session: str | None, level: int = 51, **body) -> dict:
    body = {"instruction": "go", "image": red(level), "session_id": session, **body}
    response = client.post("/predict", json={name: value for name, value in body.items() if value is not None})
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: httpx.Client, **body) -> tuple[int, str, str]:
    response = client.post("/predict", json={"instruction": "go", "image": red(51), **body})
    error = response.json()["error"]
    return response.status_code, error["code"], error["message"]


def test_a_session_keeps_window_seed_and_step(client):
    first = turn(client, "keeps", seed=3, obs_time=1.5)
    assert first["session"] == {"id": "keeps", "step": 0, "sequence": None, "obs_time": 1.5, "asked_policy": True}
    replies = [turn(client, "keeps", obs_time=2.5), turn(client, "keeps", obs_time=3.5)]
    assert [reply["session"]["step"] for reply in replies] == [1, 2]
    assert [reply["seed"] for reply in replies] == [3, 3]
    np.testing.assert_allclose([reply["action"][5] for reply in (first, *replies)], [1, 2, 2])
    np.testing.assert_allclose([reply["action"][6] for reply in (first, *replies)], [noise(3, i) for i in range(3)])


def test_a_session_sees_scenes_too(client):
    replies = [turn(client, "scene", image=None, xml_string=SCENE) for _ in range(2)]
    assert [reply["action"][5] for reply in replies] == [1, 2]
    assert replies[1]["action"][0] > 0.2


def test_chunks_are_executed_and_ensembles_averaged(client):
    executed = [turn(client, "chunk", 255, execution="chunk", execution_horizon=2) for _ in range(3)]
    assert [reply["action"][0] for reply in executed] == [1, 2, 1]
    assert [reply["session"]["asked_policy"] for reply in executed] == [True, False, True]
    averaged = [turn(client, "ensemble", 255, execution="ensemble") for _ in range(3)]
    np.testing.assert_allclose([reply["action"][0] for reply in averaged], [1, 1.5, 2])
    assert [len(reply["actions"]) for reply in averaged] == [1, 1, 1]


def test_the_same_turn_again_is_answered_the_same_and_an_older_one_is_superseded(client):
    first, second = (turn(client, "order", sequence=sequence) for sequence in (4, 5))
    assert turn(client, "order", sequence=5)["actions"] == second["actions"] != first["actions"]
    status, code, message = refused(client, session_id="order", sequence=4)
    assert (status, code) == (409, "superseded")
    assert "observation 4 is older than 5" in message


def test_reset_begins_a_new_episode(client):
    first = turn(client, "reset", seed=1)
    turn(client, "reset")
    assert turn(client, "reset", reset=True)["actions"] == first["actions"]
    assert turn(client, "reset", reset=True, seed=2)["action"][6] == noise(2)
    assert "seed 7 instead of 2 is requested" in refused(client, session_id="reset", seed=7)[2]


def test_sessions_are_listed_and_ended(client):
    turn(client, "lab-1/arm:left")
    listed = {session["id"]: session for session in client.get("/sessions").json()["sessions"]}
    assert listed["lab-1/arm:left"]["instruction"] == "go"
    assert listed["lab-1/arm:left"]["step"] == 1
    ended = client.delete("/sessions/lab-1/arm:left")
    assert (ended.status_code, ended.json()["step"]) == (200, 1)
    assert client.delete("/sessions/lab-1/arm:left").json()["error"]["code"] == "not_found"
    assert turn(client, "lab-1/arm:left")["session"]["step"] == 0


class Served:
    """A client of a server that keeps its key in a folder."""

    def __init__(self, folder, **settings):
        self._serving = serving(echo_app(cache_dir=folder, **settings))

    def __enter__(self) -> httpx.Client:
        url = self._serving.__enter__()
        wait_until_healthy(url)
        self._client = httpx.Client(base_url=url, timeout=30)
        return self._client

    def __exit__(self, *error) -> None:
        self._client.close()
        self._serving.__exit__(*error)


def test_a_token_resumes_the_session_on_a_server_that_was_started_again(client, tmp_path):
    levels = [20, 40, 60, 80]
    whole = [turn(client, "whole", level, seed=5, sequence=i)["actions"] for i, level in enumerate(levels)]
    with Served(tmp_path) as first:
        replies = [turn(first, "arm", level, seed=5, sequence=i) for i, level in enumerate(levels[:2])]
        token = turn(first, "arm", levels[1], sequence=1, return_token=True)["session"]["token"]
    with Served(tmp_path) as second:
        resumed = turn(second, None, levels[2], session_token=token, sequence=2)
        assert resumed["session"]["id"] == "arm"
        replies += [resumed, turn(second, "arm", levels[3], sequence=3)]
        broken = base64.b64encode(base64.b64decode(token)[:-1]).decode()
        assert refused(second, session_token=broken)[:2] == (422, "invalid_token")
        assert refused(second, session_token="?")[:2] == (422, "invalid_token")
    assert [reply["actions"] for reply in replies] == whole


def test_a_robot_with_a_new_session_for_each_episode_locks_nobody_out(tmp_path):
    with Served(tmp_path, max_sessions=2) as client:
        steps = [turn(client, f"episode-{episode}")["session"]["step"] for episode in range(5)]
        assert [*steps, turn(client, "another")["session"]["step"]] == [0] * 6
        listed = [session["id"] for session in client.get("/sessions").json()["sessions"]]
        assert listed == ["another", "episode-4"]


def test_a_reply_says_by_what_statistics_its_session_acts(client):
    first = turn(client, "said", dataset="echo_doubled", action_format="ee_delta")
    for reply in (first, turn(client, "said"), turn(client, "said", instruction="stop")):
        assert (reply["dataset"], reply["action_format"]) == ("echo_doubled", "ee_delta")
        np.testing.assert_allclose(reply["action"][0], 1 + 2 * 0.2)


def test_a_turn_that_begins_an_episode_may_say_otherwise(client):
    turn(client, "otherwise", execution="ensemble")
    begun = turn(client, "otherwise", reset=True, execution="chunk", execution_horizon=2)
    assert [begun["session"]["step"], turn(client, "otherwise")["session"]["asked_policy"]] == [0, False]


def test_eight_robots_at_once_get_what_each_gets_alone(client):
    def episode(session: str, robot: int) -> list:
        return [turn(client, session, 10 * robot + step, seed=robot)["actions"] for step in range(10)]

    alone = [episode(f"alone-{robot}", robot) for robot in range(8)]
    with ThreadPoolExecutor(8) as robots:
        together = list(robots.map(episode, [f"together-{robot}" for robot in range(8)], range(8)))
    assert together == alone


def test_a_deadline_that_passes_is_said_so(client):
    for session in ({}, {"session_id": "late"}):
        assert refused(client, deadline_ms=1e-6, **session)[:2] == (504, "deadline_exceeded")
    assert turn(client, "late", deadline_ms=20_000)["session"]["step"] == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sequence": 1}, "sequence can only be given together with session_id or session_token"),
        ({"session_id": "a", "session_token": "b"}, "give one"),
        ({"session_id": "a", "step": 1}, "step cannot be given in a session"),
        ({"session_id": "a", "num_samples": 2}, "num_samples cannot be given in a session"),
        ({"session_id": "a", "execution_horizon": 2}, "execution_horizon can only be given together with execution"),
        ({"session_id": "a", "execution": "chunk", "execution_horizon": 9}, "execution_horizon: expected 1 to"),
        ({"session_id": "a\n"}, "is not a session id"),
        ({"session_id": "a", "sequence": -1}, "sequence"),
    ],
)
def test_what_makes_no_sense_is_refused(client, fields, said):
    status, _, message = refused(client, **fields)
    assert status == 422
    assert said in message


def test_a_cache_that_cannot_be_written_is_warned_of_and_sessions_have_tokens_all_the_same(tmp_path, caplog):
    (tmp_path / "file").touch()
    with serving(echo_app(cache_dir=tmp_path / "file" / "cache")) as url, httpx.Client(base_url=url) as client:
        wait_until_healthy(url)
        token = turn(client, "arm", seed=3, return_token=True)["session"]["token"]
        client.delete("/sessions/arm")
        assert turn(client, None, session_token=token)["session"]["step"] == 1
    assert "is not writable (Not a directory)" in caplog.text

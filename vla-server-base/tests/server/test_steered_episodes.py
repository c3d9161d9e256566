"""Episodes that are watched and steered over real sockets: paused, stepped, read by several, ended."""

import threading
import time

import pytest
from echo_server import wait_until
from episode_client import EPISODE, followed, names, read_events, steps

from vla_server_base.server.openapi import EPISODE_EXAMPLES, PATCH_EXAMPLES


def test_an_episode_is_begun_and_read_to_its_end(page):
    reply = page.client.post("/episodes", json=EPISODE).json()
    events = page.events(reply["episode_id"])
    assert names(events) == ["start", "step", "step", "step", "end"]
    assert [number for number, _, _ in events] == [0, 1, 2, 3, 4]
    assert reply["start"] == events[0][2]
    status = page.status(reply["episode_id"])
    assert (status["status"], status["reason"], status["step"], status["time"]) == ("ended", "max_steps", 3, 0.6)


def test_a_paused_episode_executes_as_many_actions_as_it_is_told(page):
    episode = page.begin(paused=True, max_steps=10)
    assert page.status(episode)["status"] == "paused"
    page.steer(episode, steps=2)
    wait_until(lambda: page.status(episode)["status"] == "paused")
    assert page.status(episode)["step"] == 2
    page.steer(episode, steps=1)
    wait_until(lambda: page.status(episode)["status"] == "paused")
    assert page.status(episode)["step"] == 3
    page.steer(episode, status="running")
    events = page.events(episode)
    assert len(steps(events)) == 10
    assert [(data["step"], data["status"]) for _, name, data in events if name == "change"] == [
        *((0, "running"), (2, "paused"), (2, "running"), (3, "paused"), (3, "running")),
    ]


def test_a_paused_episode_stands_still(page):
    episode = page.begin(pace="real_time", max_steps=1000)
    page.steer(episode, status="paused")
    paused = page.status(episode)
    page.begin(max_steps=5)
    wait_until(lambda: page.client.get("/episodes").json()["episodes"][0]["status"] == "ended")
    assert page.status(episode) == paused, "another one went on meanwhile"


def test_an_episode_stops_when_told(page):
    episode = page.begin(pace="real_time", max_steps=1000)
    answer = page.steer(episode, status="stopped", instruction="lift")
    assert (answer["status"], answer["reason"], answer["instruction"]) == ("ended", "stopped", "lift")
    assert page.end(episode)["reason"] == "stopped"
    assert page.status(episode) == answer


def test_an_episode_that_has_ended_cannot_be_steered(page):
    episode = page.begin()
    page.events(episode)
    error = page.steer(episode, expected=409, status="paused")
    assert error["code"] == "episode_ended"
    assert error["hint"]


def test_an_unknown_episode_is_404(page):
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", ""), ("PATCH", "")):
        response = page.client.request(method, f"/episodes/none{path}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_a_deleted_episode_ends_for_its_readers_and_is_forgotten(page):
    episode = page.begin(pace="real_time", max_steps=1000)
    with page.client.stream("GET", f"/episodes/{episode}/events") as response:
        reply = page.client.delete(f"/episodes/{episode}").json()
        seen = read_events(response)
    assert (reply["status"], reply["reason"], seen[-1][2]["reason"]) == ("ended", "stopped", "stopped")
    assert page.client.get(f"/episodes/{episode}").status_code == 404


def test_a_scene_that_fails_is_refused_with_its_own_status(page):
    response = page.client.post("/episodes", json={**EPISODE, "xml_string": "<mujoco><worldbody/></mujoco>"})
    assert response.status_code == 422
    assert page.client.get("/episodes").json()["episodes"] == []


def test_the_list_leaves_out_what_was_changed(page):
    episode = page.begin(paused=True)
    page.steer(episode, instruction="sit")
    (listed,) = page.client.get("/episodes").json()["episodes"]
    status = page.status(episode)
    assert {**listed, "changes": [{"step": 0, "instruction": "sit"}]} == status


def test_in_real_time_no_step_comes_before_its_simulated_time(page):
    began = time.monotonic()
    episode = page.begin(pace="real_time", max_steps=4)
    with page.client.stream("GET", f"/episodes/{episode}/events") as response:
        came = [(name, data, time.monotonic() - began) for _, name, data in followed(response)]
    arrivals = [(data["state"]["time"], seconds) for name, data, seconds in came if name == "step"]
    assert [simulated for simulated, _ in arrivals] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert all(arrived >= simulated for simulated, arrived in arrivals)


def test_two_readers_get_the_same_events(page):
    episode = page.begin(pace="real_time")
    early: list = []
    reader = threading.Thread(target=lambda: early.extend(page.events(episode)))
    reader.start()
    late = page.events(episode)
    reader.join()
    assert early == late
    assert names(early)[-1] == "end"


@pytest.mark.parametrize("resume", [lambda n: {"headers": {"Last-Event-ID": n}}, lambda n: {"params": {"after": n}}])
def test_a_reader_whose_connection_broke_goes_on_behind_its_last_event(page, resume):
    episode = page.begin(pace="real_time")
    first = page.events(episode, until="step")
    rest = page.events(episode, **resume(str(first[-1][0])))
    assert [number for number, _, _ in first + rest] == [0, 1, 2, 3, 4]


def test_the_examples_of_the_api_description_run(page, client):
    response = client.post("/episodes", json=EPISODE_EXAMPLES["paused"]["value"])
    assert response.status_code == 201, response.text
    episode = response.json()["episode_id"]
    for example in PATCH_EXAMPLES.values():
        page.steer(episode, **example["value"])
    assert page.end(episode)["reason"] == "max_steps"

"""Episodes that are changed in their middle: what they should do, where bodies are, and what counts as success."""

import base64
import io
import json

import numpy as np
import pytest
from echo_server import wait_until
from episode_client import EPISODE, Page, names, steps
from PIL import Image

from vla_server_base.testing.echo import instruction_number

ASIDE = {"position": [0.45, -0.2, 0.2], "quaternion": [0.6, 0.8, 0.0, 0.0]}


def paused_after(page: Page, num_steps: int, **fields) -> str:
    episode = page.begin(paused=True, **fields)
    page.steer(episode, steps=num_steps)
    wait_until(lambda: page.status(episode)["status"] == "paused")
    return episode


def test_a_new_instruction_reaches_the_policy_at_the_next_step(page):
    episode = page.begin(paused=True, execution_horizon=4, max_steps=4)
    page.steer(episode, steps=2)
    wait_until(lambda: page.status(episode)["status"] == "paused")
    assert page.steer(episode, instruction="lift", status="running")["instruction"] == "lift"
    actions = [step["action"][4] for step in steps(page.events(episode))]
    old, new = instruction_number("reach"), instruction_number("lift")
    assert actions == pytest.approx([old, 2 * old, new, 2 * new])


def test_a_body_is_put_elsewhere_at_rest_and_the_policy_sees_it_there(page):
    episode = paused_after(page, 1, max_steps=2, frames="png", poses=True)
    page.steer(episode, bodies={"red_cube": ASIDE})
    page.steer(episode, status="running")
    events = page.events(episode)
    start, (change,) = events[0][2], [data for _, name, data in events if "bodies" in data]
    assert (change["step"], change["status"], change["bodies"]) == (1, "paused", {"red_cube": ASIDE})
    cube = start["pose_bodies"].index(start["body_names"].index("red_cube"))
    assert change["poses"]["frames"][0][cube] == [*ASIDE["position"], *ASIDE["quaternion"]]
    seen = steps(events)[1]["action"][:3]
    after, before = (mean_colour(event["images"]["primary"]) for event in (change, steps(events)[0]))
    assert seen == pytest.approx(after, abs=1e-9)
    assert seen != pytest.approx(before, abs=1e-5)


def mean_colour(image: str) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))))
    return pixels.mean(axis=(0, 1)) / 255


def test_new_success_ends_the_episode_when_it_holds(page):
    episode = paused_after(page, 1, max_steps=9)
    everywhere = {"kind": "measured", "measure": "height", "names": ["red_cube"], "low": -9.0}
    page.steer(episode, success=[everywhere], status="running")
    *_, changed, _, (_, _, end) = page.events(episode)
    assert changed[2]["success"] == page.status(episode)["changes"][0]["success"]
    assert end["reason"] == "success"
    assert page.status(episode)["step"] == 2


def test_a_steered_episode_is_that_of_its_changes_bit_for_bit(page, client):
    request = {**EPISODE, "execution_horizon": 4, "max_steps": 8, "guard": "clamp", "latency_ms": 100.0}
    lifted = {"kind": "lifted", "body": "red_cube", "height_m": 0.5}
    episode = paused_after(page, 2, **request)
    page.steer(episode, instruction="lift", success=[lifted])
    page.steer(episode, steps=3)
    wait_until(lambda: page.status(episode)["step"] == 5)
    page.steer(episode, bodies={"red_cube": ASIDE})
    page.steer(episode, bodies={"blue_cube": {"position": [0.5, 0.25, 0.1]}}, pace="fast", status="running")
    steered = page.events(episode)
    changes = page.status(episode)["changes"]
    assert [change["step"] for change in changes] == [2, 5, 5]
    played = client.post("/execute", json=without("pace", {**request, "changes": changes})).json()
    assert (played["reason"], played["success"]) == ("max_steps", False)
    for name in ("action", "state", "position", "contacts", "chunk", "criteria", "violations"):
        assert [step[name] for step in steps(steered)] == values(played, name), name
    replayed = page.events(page.begin(**{**request, "changes": changes}))
    assert [without("timing_ms", step) for step in steps(replayed)] == [
        without("timing_ms", step) for step in steps(steered)
    ]


def values(reply: dict, name: str) -> list:
    if name in ("action", "state"):
        return reply[f"{name}s"]
    return [step[name] for step in reply["steps"]]


def without(name: str, values: dict) -> dict:
    return {key: value for key, value in values.items() if key != name}


def test_frames_change_nothing_where_the_instruction_changes_in_a_chunk(client):
    change = {"step": 3, "instruction": "lift"}
    request = without("pace", {**EPISODE, "execution_horizon": 4, "max_steps": 6, "changes": [change]})
    plain, with_images = (client.post("/execute", json={**request, "frames": frames}) for frames in ("none", "jpeg"))
    assert plain.json()["actions"] == with_images.json()["actions"]


def test_a_stream_of_execute_tells_the_changes(client):
    change = {"step": 1, "instruction": "lift", "bodies": {"red_cube": ASIDE}}
    request, accept = without("pace", {**EPISODE, "changes": [change]}), {"Accept": "text/event-stream"}
    with client.stream("POST", "/execute", json=request, headers=accept) as response:
        lines = list(response.iter_lines())
    event_names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert event_names == ["start", "step", "change", "step", "step", "end"]
    event = json.loads(lines[lines.index("event: change") + 1].removeprefix("data: "))
    assert (event["step"], event["instruction"], event["bodies"]) == (1, "lift", {"red_cube": ASIDE})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"bodies": {"cube": {"position": [0, 0, 1]}}}, "unknown_body"),
        ({"bodies": {"link1": {"position": [0, 0, 1]}}}, "scene_state"),
        ({"success": [{"kind": "lifted", "body": "cube"}], "bodies": {"red_cube": ASIDE}}, "unknown_body"),
        ({"instruction": " "}, "instruction"),
        ({"status": "running", "steps": 1}, "invalid_request"),
        ({"bodies": {"red_cube": {"position": [0.0, 0.0, 1.0], "quaternion": [0, 0, 0, 0]}}}, "invalid_request"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing_and_the_episode_goes_on(page, change, code):
    episode = page.begin(paused=True)
    before = page.status(episode)
    error = page.steer(episode, expected=422, **{"pace": "real_time", **change})
    assert (error["code"], bool(error["hint"])) == (code, True)
    assert page.status(episode) == before
    page.steer(episode, status="running")
    assert names(page.events(episode)) == ["start", "change", "step", "step", "step", "end"]


def test_steps_are_for_a_paused_episode(page):
    episode = page.begin(pace="real_time", max_steps=1000)
    assert "not paused" in page.steer(episode, expected=422, steps=1)["message"]
    page.steer(episode, status="paused", steps=2)
    before = page.status(episode)["step"]
    wait_until(lambda: page.status(episode)["status"] == "paused")
    assert page.status(episode)["step"] in (before + 1, before + 2)


def test_an_episode_takes_64_changes(page):
    episode = page.begin(paused=True)
    for number in range(64):
        page.steer(episode, instruction=f"reach {number}")
    assert "64" in page.steer(episode, expected=422, instruction="reach")["message"]
    assert page.steer(episode, status="running")["instruction"] == "reach 63"


def test_only_json_steers_an_episode(page, client):
    episode = page.begin(paused=True)
    response = client.patch(
        f"/episodes/{episode}", content='{"status": "running"}', headers={"Content-Type": "text/plain"}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media")
    assert page.status(episode)["status"] == "paused"

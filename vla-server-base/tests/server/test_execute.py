"""Episodes over HTTP: as one reply, as a stream that ends when its client does, recorded, and refused."""

import base64
import io
import json
import time
import zipfile

import httpx
import mujoco
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour, wait_until, wait_until_healthy
from PIL import Image

from vla_server_base.datasets import open_dataset
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.schemas.execute_reply import ExecuteReply
from vla_server_base.server.openapi import EXECUTE_EXAMPLES
from vla_server_base.server.uvicorn_server import serving

PANDA = bundled_scene("panda", "tabletop")
EPISODE = {"instruction": "reach", "xml_string": PANDA, "seed": 3, "max_steps": 3}


def execute(client: httpx.Client, status: int = 200, **fields) -> dict:
    response = client.post("/execute", json={**EPISODE, **fields})
    assert response.status_code == status, response.text
    return response.json() if status == 200 else response.json()["error"]


def events(response: httpx.Response) -> list[tuple[str, dict]]:
    found, name = [], ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((name, json.loads(line.removeprefix("data: "))))
    return found


def streamed(client: httpx.Client, **fields) -> list[tuple[str, dict]]:
    accept = {"Accept": "text/event-stream"}
    with client.stream("POST", "/execute", json={**EPISODE, **fields}, headers=accept) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        return events(response)


def test_an_episode_is_its_actions_and_the_states_they_led_to(client):
    reply = execute(client)
    assert np.shape(reply["actions"]) == (3, 7)
    assert [round(state["time"], 6) for state in reply["states"]] == [0.2, 0.4, 0.6]
    assert len(reply["states"][0]["qpos"]) == len(reply["initial_state"]["qpos"]) == 30
    assert (reply["reason"], reply["success"], reply["seed"]) == ("max_steps", None, 3)
    assert reply["robot"]["joints"] == [f"joint{number}" for number in range(1, 8)]
    assert "red_cube" in reply["body_names"]
    assert all(step["timing_ms"]["total"] > 0 for step in reply["steps"])
    ExecuteReply.model_validate(reply)


def test_the_same_request_gives_the_same_episode(client):
    one, other = execute(client), execute(client)
    assert (one["actions"], one["states"]) == (other["actions"], other["states"])


def test_an_episode_goes_on_from_the_state_that_another_reached(client):
    whole = execute(client, max_steps=1)
    rest = execute(client, max_steps=1, state={key: whole["states"][0][key] for key in ("qpos", "qvel", "ctrl")})
    assert rest["initial_state"]["qpos"] == whole["states"][0]["qpos"]


def test_a_scene_that_was_executed_can_be_named_by_its_id(client):
    scene_id = execute(client)["scene_id"]
    response = client.post("/execute", json={"instruction": "reach", "scene_id": scene_id, "max_steps": 1})
    assert response.status_code == 200, response.text


def test_a_stream_tells_each_step_and_adds_up_to_the_reply(client):
    (start, *steps, end), reply = streamed(client, frames="jpeg"), execute(client)
    assert [name for name, _ in (start, *steps, end)] == ["start", "step", "step", "step", "end"]
    assert [step["action"] for _, step in steps] == reply["actions"]
    assert [step["state"] for _, step in steps] == reply["states"]
    assert start[1]["state"] == reply["initial_state"]
    assert end[1]["reason"] == "max_steps"
    picture = Image.open(io.BytesIO(base64.b64decode(steps[0][1]["images"]["primary"])))
    assert (picture.format, picture.size) == ("JPEG", (224, 224))


def test_what_fails_before_the_first_step_of_a_stream_has_its_status(client):
    response = client.post("/execute", json={**EPISODE, "robot": "ur5e"}, headers={"Accept": "text/event-stream"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "scene_invalid")


def test_a_client_that_leaves_ends_its_episode_at_once():
    with serving(echo_app(max_episodes=1)) as url, httpx.Client(base_url=url, timeout=30) as client:
        wait_until_healthy(url)
        body = {**EPISODE, "max_steps": 1000}
        with client.stream("POST", "/execute", json=body, headers={"Accept": "text/event-stream"}) as response:
            lines = response.iter_lines()  # held: it closes the connection when it goes
            next(lines)
            assert execute(client, 503)["code"] == "overloaded", "the one episode runs"
        left = time.monotonic()
        wait_until(lambda: client.post("/execute", json={**EPISODE, "max_steps": 1}).status_code == 200)
        assert time.monotonic() - left < 10, "1000 steps take minutes"


def test_an_episode_that_has_used_up_its_workers_time_ends_and_says_which_setting():
    with serving(echo_app(episode_worker_s=0.2)) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until_healthy(url)
        error = execute(client, 422, max_steps=1000)
        assert error["code"] == "episode_too_long"
        assert "0.2 s of scene workers' time" in error["message"]
        assert "VLA_EPISODE_WORKER_S" in error["hint"]
        start, *steps, end = streamed(client, max_steps=1000)
        assert {name for name, _ in steps} <= {"step"}
        assert (start[0], end[0], end[1]["error"]["code"]) == ("start", "error", "episode_too_long")


def test_an_episode_can_be_watched_and_replayed(client):
    reply = execute(client, record=["webp", "state_log"])
    animation = Image.open(io.BytesIO(base64.b64decode(reply["recordings"]["webp"])))
    assert (animation.format, getattr(animation, "n_frames", 1)) == ("WEBP", 4)
    animation.seek(3)
    animation.load()
    assert animation.info["timestamp"] == 600, "the last picture's, in milliseconds"
    model = mujoco.MjModel.from_xml_string(reply["recordings"]["state_log"])
    data = mujoco.MjData(model)
    states = [reply["initial_state"], *reply["states"]]
    for number, state in enumerate(states):
        mujoco.mj_resetDataKeyframe(model, data, model.key(f"episode {number}").id)
        np.testing.assert_array_equal(data.qpos, state["qpos"])
        np.testing.assert_array_equal(data.ctrl, state["ctrl"])
        assert data.time == pytest.approx(state["time"])


def test_success_is_judged_over_named_bodies_and_joints(client):
    reply = execute(client, success=[{"kind": "joint_range", "joint": "joint1", "low": -3, "high": 3}])
    assert (reply["reason"], reply["success"], len(reply["actions"])) == ("success", True, 1)
    near = {"kind": "near", "bodies": ["red_cube", "blue_cube"], "distance_m": 0.01}
    assert execute(client, success=[near])["success"] is False
    touching = {"kind": "in_contact", "bodies": ["red_cube", "world"]}
    assert execute(client, success=[touching])["success"] is True
    assert execute(client, success=[touching, {"kind": "lifted", "body": "red_cube"}])["success"] is False
    stays = {"kind": "measured", "measure": "along", "names": ["red_cube"], "direction": [0, 1, 0], "high": 0.01}
    assert execute(client, success=[{**stays, "since_start": True}])["success"] is True
    assert execute(client, success=[{**stays, "low": 0.005, "since_start": True}])["success"] is False


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"success": [{"kind": "lifted", "body": "cup"}]}, "unknown_body"),
        ({"success": [{"kind": "joint_range", "joint": "cup", "low": 0, "high": 1}]}, "unknown_joint"),
        ({"robot": "r2d2"}, "unknown_robot_name"),
        ({"robot": {"joints": ["a"], "end_effector": "b"}}, "unknown_joint"),
        ({"robot": {"joints": ["joint1"], "end_effector": "ee", "home": [0, 1]}}, "invalid_request"),
        ({"success": [{"kind": "measured", "measure": "above", "names": ["red_cube"]}]}, "invalid_request"),
        ({"success": [{"kind": "eaten", "body": "red_cube"}]}, "invalid_request"),
        ({"execution_horizon": 5}, "invalid_request"),
        ({"execution_horizon": 2, "ensemble_weight": 0}, "invalid_request"),
        ({"max_steps": 0}, "invalid_request"),
        ({"latency_ms": -1}, "invalid_request"),
        ({"control": {"rate_hz": 1000}}, "invalid_request"),
        ({"record": ["webp"], "max_steps": 301}, "invalid_request"),
        ({"record": ["lerobot"], "control": {"rate_hz": 7.5}}, "invalid_request"),
        ({"image": of_one_colour(1, 2, 3)}, "invalid_request"),
        ({"instruction": " "}, "instruction"),
        ({"dataset": "moon"}, "unknown_dataset"),
        ({"xml_string": "<mujoco><worldbody><camera/></worldbody></mujoco>"}, "scene_invalid"),
    ],
)
def test_what_cannot_be_executed_is_refused_by_name(client, fields, code):
    assert execute(client, 422, **fields)["code"] == code


def test_an_episode_too_large_to_keep_is_streamed_or_refused(client):
    crowd = "".join(
        f"<body pos='{x} {y} 5'><freejoint/><geom size='0.01' contype='0' conaffinity='0'/></body>"
        for x in range(2, 22)
        for y in range(8)
    )
    fields = {"xml_string": PANDA.replace("<keyframe>", "<!--").replace("</keyframe>", "-->"), "max_steps": 1000}
    fields["xml_string"] = fields["xml_string"].replace("</worldbody>", crowd + "</worldbody>")
    assert "at most 2000000 are kept" in execute(client, 422, **fields)["message"]
    accept = {"Accept": "text/event-stream"}
    with client.stream("POST", "/execute", json={**EPISODE, **fields}, headers=accept) as response:
        lines = response.iter_lines()
        assert next(lines) == "event: start"


def test_the_example_of_the_api_page_runs(client):
    response = client.post("/execute", json=EXECUTE_EXAMPLES["described"]["value"])
    assert response.status_code == 200, response.text


def test_joint_positions_are_the_scenes_arms_and_the_gripper(client):
    reply = client.post("/predict", json={**EPISODE_AS_PREDICT, "action_format": "joint_position"}).json()
    assert reply["action_names"] == [*(f"joint{number}" for number in range(1, 8)), "gripper"]
    step = execute(client, max_steps=1)["steps"][0]
    assert reply["action"][:7] == step["joint_targets"]
    assert reply["action"][7] == reply["actions"][0][6]


EPISODE_AS_PREDICT = {name: EPISODE[name] for name in ("instruction", "xml_string", "seed")}


def test_a_preview_of_a_prediction_shows_what_an_episode_then_does(client):
    reply = client.post("/predict", json={**EPISODE_AS_PREDICT, "preview": True}).json()
    episode = execute(client, execution_horizon=4, max_steps=4)
    assert [motion["position"] for motion in reply["preview"]] == [step["position"] for step in episode["steps"]]
    assert reply["timing_ms"]["preview"] > 0


def test_a_guard_warns_clamps_or_rejects(client):
    box = {"bounds": {"workspace": [[0, -0.001, 0], [1, 0.001, 1]]}}
    warned = client.post("/predict", json={**EPISODE_AS_PREDICT, **box, "guard": "warn"}).json()
    assert {found["what"] for step in warned["preview"] for found in step["violations"]} == {"y"}
    clamped = client.post("/predict", json={**EPISODE_AS_PREDICT, **box, "guard": "clamp"}).json()
    assert not any(step["violations"] for step in clamped["preview"])
    for action, whole, step in zip(clamped["actions"], warned["actions"], clamped["preview"], strict=True):
        np.testing.assert_allclose(action, [*(step["scale"] * np.array(whole[:6])), whole[6]])
    assert clamped["action"][:6] == clamped["actions"][0][:6]
    rejected = client.post("/predict", json={**EPISODE_AS_PREDICT, **box, "guard": "reject"})
    assert (rejected.status_code, rejected.json()["error"]["code"]) == (422, "action_rejected")
    assert "workspace of y" in rejected.json()["error"]["message"]


def test_a_picture_has_no_joints(client):
    body = {"instruction": "go", "image": of_one_colour(1, 2, 3), "action_format": "joint_position"}
    response = client.post("/predict", json=body)
    assert response.status_code == 422
    assert "is for a scene" in response.json()["error"]["message"]


def test_history_fills_the_window_of_a_picture(client):
    body = {"instruction": "go", "image": of_one_colour(1, 2, 3)}
    assert client.post("/predict", json=body).json()["action"][5] == 1.0
    past = {"history": [{"image": of_one_colour(1, 2, 3)}]}
    assert client.post("/predict", json={**body, **past}).json()["action"][5] == 2.0
    too_long = client.post("/predict", json={**body, "history": past["history"] * 2})
    assert "expected at most 1 past observations, got 2" in too_long.json()["error"]["message"]


def test_each_step_of_a_seed_has_its_own_noise(client):
    body = {"instruction": "go", "image": of_one_colour(1, 2, 3), "seed": 1}
    noises = [client.post("/predict", json={**body, "step": step}).json()["action"][6] for step in (0, 1, 0)]
    assert noises[0] == noises[2] != noises[1]


def test_the_base_body_leads_from_the_end_effectors_frame_to_the_worlds(client):
    turned = PANDA.replace('<body name="link0"', '<body name="link0" pos="0.3 -0.2 0.1" quat="0.9 0 0 0.4"')
    reply = execute(client, xml_string=turned, max_steps=1)
    model = mujoco.MjModel.from_xml_string(turned)
    data = mujoco.MjData(model)
    data.qpos[:] = reply["states"][0]["qpos"]
    mujoco.mj_kinematics(model, data)
    base = reply["robot"]["base"]
    in_base = np.array(reply["steps"][0]["position"])
    in_world = data.xpos[base] + data.xmat[base].reshape(3, 3) @ in_base
    np.testing.assert_allclose(in_world, data.site(reply["robot"]["end_effector"]).xpos, atol=1e-6)


def test_an_episode_is_recorded_as_a_lerobot_dataset(client, tmp_path):
    assert "lerobot" in client.get("/info").json()["recordings"]
    reply = execute(client, record=["lerobot"], max_steps=3)
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(reply["recordings"]["lerobot"]))) as archive:
        archive.extractall(tmp_path)
    dataset = open_dataset(tmp_path)
    (episode,) = dataset
    assert (dataset.fps, episode.instruction) == (5, EPISODE["instruction"])
    np.testing.assert_allclose(episode.actions, reply["actions"], atol=1e-6)
    # The observation before each action: the second is what the first led to.
    pose = [*reply["steps"][0]["position"], *reply["steps"][0]["quaternion"]]
    np.testing.assert_allclose(episode.proprio[1], pose, atol=1e-6)
    assert episode.proprio_names == ("x", "y", "z", "qw", "qx", "qy", "qz")
    assert episode.action_names == ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
    assert (episode.images["primary"][0] != episode.images["primary"][2]).any()


def test_each_instruction_of_a_lerobot_dataset_has_its_own_episode(client, tmp_path):
    changes = [{"step": 2, "instruction": "let go"}]
    reply = execute(client, record=["lerobot"], max_steps=3, changes=changes)
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(reply["recordings"]["lerobot"]))) as archive:
        archive.extractall(tmp_path)
    first, second = open_dataset(tmp_path)
    assert [first.instruction, second.instruction] == [EPISODE["instruction"], "let go"]
    np.testing.assert_allclose([*first.actions, *second.actions], reply["actions"], atol=1e-6)
    pose = [*reply["steps"][1]["position"], *reply["steps"][1]["quaternion"]]
    np.testing.assert_allclose(second.proprio[0], pose, atol=1e-6)

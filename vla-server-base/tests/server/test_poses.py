"""Body poses, criteria, chunks and moved bodies in requests and replies."""

import base64
import io

import numpy as np
import pytest
from glb_file import read_glb
from PIL import Image
from test_execute import EPISODE, PANDA, execute, streamed

from vla_server_base.schemas.execute_reply import ExecuteReply
from vla_server_base.schemas.predict_reply import PredictReply

PREDICT = {name: EPISODE[name] for name in ("instruction", "xml_string", "seed")}
ELSEWHERE = [0.35, -0.25, 0.025]
TURNED = [0.0, 0.0, 0.0, 2.0]
NEAR = {"kind": "near", "bodies": ["red_cube", "blue_cube"], "distance_m": 0.01}
LIFTED = {"kind": "lifted", "body": "red_cube"}
CROWD = "".join(
    f"<body pos='{x} {y} 5'><freejoint/><geom size='0.01' contype='0' conaffinity='0'/></body>"
    for x in range(2, 12)
    for y in range(3)
)
CROWD += "</worldbody>"
CROWDED = PANDA.replace("<keyframe>", "<!--").replace("</keyframe>", "-->").replace("</worldbody>", CROWD)


def predict(client, status=200, **fields):
    response = client.post("/predict", json={**PREDICT, **fields})
    assert response.status_code == status, response.text
    return response.json() if status == 200 else response.json()["error"]


def with_bodies(**bodies) -> dict:
    """Return the state of a request that puts these bodies."""
    return {"bodies": bodies}


def pose_of(body: str, reply: dict, frame: list) -> list:
    return frame[reply["pose_bodies"].index(reply["body_names"].index(body))]


def test_an_episode_with_poses_has_thirty_frames_a_second_of_each_moving_body(client):
    reply = execute(client, poses=True, preview=True)
    num_bodies = len(reply["pose_bodies"])
    assert np.shape(reply["initial_poses"]["frames"]) == (1, num_bodies, 7)
    for step, state in zip(reply["steps"], reply["states"], strict=True):
        for motion in (step, *step["preview"]):
            assert np.shape(motion["poses"]["frames"]) == (6, num_bodies, 7)
        assert step["poses"]["times"][-1] == state["time"]
        cube = pose_of("red_cube", reply, step["poses"]["frames"][-1])
        np.testing.assert_allclose(cube, state["qpos"][-21:-14], atol=5.1e-6)
    ExecuteReply.model_validate(reply)


def test_an_episode_is_the_same_with_poses_and_without_bit_for_bit(client):
    plain, posed = (execute(client, latency_ms=100, guard="clamp", poses=poses) for poses in (False, True))
    assert plain["actions"] == posed["actions"]
    assert plain["states"] == posed["states"]
    for step, with_poses in zip(plain["steps"], posed["steps"], strict=True):
        assert {**with_poses, "poses": None, "preview": None, "timing_ms": None} == {
            **step,
            "preview": None,
            "timing_ms": None,
        }


def test_without_poses_they_are_null(client):
    reply = execute(client, preview=True)
    assert (reply["pose_bodies"], reply["initial_poses"]) == (None, None)
    assert [motion["poses"] for step in reply["steps"] for motion in (step, *step["preview"])] == [None] * 15
    assert "pose_bodies" not in predict(client)


def test_a_stream_starts_with_one_frame_and_adds_up_to_the_reply(client):
    fields = {"poses": True, "success": [NEAR, LIFTED]}
    (start, *steps, _), reply = streamed(client, **fields), execute(client, **fields)
    assert start[1]["poses"] == reply["initial_poses"]
    assert start[1]["pose_bodies"] == reply["pose_bodies"]
    assert start[1]["criteria"] == reply["initial_criteria"]
    for name in ("poses", "criteria", "chunk"):
        assert [step[name] for _, step in steps] == [step[name] for step in reply["steps"]]


def test_the_same_seed_gives_the_same_poses(client):
    one, other = (execute(client, poses=True, seed=9) for _ in range(2))
    assert [step["poses"] for step in one["steps"]] == [step["poses"] for step in other["steps"]]


def test_frames_of_the_latency_come_first_in_the_step_after_it(client):
    steps = execute(client, poses=True, latency_ms=200, execution_horizon=2)["steps"]
    assert [len(step["poses"]["times"]) for step in steps] == [12, 6, 12]
    assert steps[0]["poses"]["times"][0] == pytest.approx(1 / 30, abs=2e-3)


def test_the_chunk_that_the_guard_rejects_has_its_poses(client):
    box = {"workspace": [[0, -0.001, 0], [1, 0.001, 1]]}
    reply = execute(client, poses=True, guard="reject", bounds=box)
    assert reply["reason"] == "rejected"
    assert {len(motion["poses"]["times"]) for motion in reply["rejected"]} == {6}


def test_poses_of_a_prediction_are_those_of_its_preview_and_then_of_the_episode(client):
    reply = predict(client, poses=True)
    episode = execute(client, poses=True, execution_horizon=4, max_steps=4)
    assert reply["pose_bodies"] == episode["pose_bodies"]
    assert reply["body_names"] == episode["body_names"]
    assert [motion["poses"] for motion in reply["preview"]] == [step["poses"] for step in episode["steps"]]
    PredictReply.model_validate(reply)


def test_poses_need_a_scene(client):
    body = {"instruction": "go", "image": "iVBOR", "poses": True}
    response = client.post("/predict", json=body)
    assert "poses can only be given together with a scene" in response.json()["error"]["message"]


def test_the_chunk_is_told_where_the_policy_was_asked(client):
    steps = execute(client, execution_horizon=2)["steps"]
    assert [np.shape(step["chunk"]) for step in steps] == [(4, 7), (), (4, 7)]
    reply = predict(client)
    assert steps[0]["chunk"] == reply["actions"]


def test_criteria_are_told_at_the_start_and_after_each_step_in_the_order_of_success(client):
    reply = execute(client, success=[LIFTED, NEAR, {"kind": "joint_range", "joint": "joint1", "low": -3, "high": 3}])
    cubes = np.array(reply["initial_state"]["qpos"][-21:]).reshape(3, 7)[:2, :3]
    lifted, near, joint = reply["initial_criteria"]
    assert lifted == {"value": 0.0, "holds": False}
    assert near == {"value": pytest.approx(np.linalg.norm(cubes[0] - cubes[1])), "holds": False}
    assert joint == {"value": reply["initial_state"]["qpos"][0], "holds": True}
    for step, state in zip(reply["steps"], reply["states"], strict=True):
        assert step["criteria"][0]["value"] == pytest.approx(state["qpos"][-19] - cubes[0][2])
        assert step["criteria"][2] == {"value": state["qpos"][0], "holds": True}
    assert execute(client)["initial_criteria"] == []


def test_frames_as_png_are_exactly_what_the_policys_cameras_see(client):
    start, *_ = streamed(client, frames="png")
    exact = predict(client, return_image=True)["images"]
    assert start[1]["images"].keys() == exact.keys()
    for name, content in start[1]["images"].items():
        image, expected = (Image.open(io.BytesIO(base64.b64decode(each))) for each in (content, exact[name]))
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.array(image), np.array(expected))


def test_a_body_of_the_state_is_put_where_it_is_wanted(client):
    reply = execute(client, poses=True, state=with_bodies(red_cube={"position": ELSEWHERE, "quaternion": TURNED}))
    assert reply["initial_state"]["qpos"][-21:-14] == [*ELSEWHERE, 0, 0, 0, 1]
    (start,) = reply["initial_poses"]["frames"]
    assert pose_of("red_cube", reply, start) == [*ELSEWHERE, 0, 0, 0, 1]
    np.testing.assert_allclose(reply["states"][-1]["qpos"][-21:-18], ELSEWHERE, atol=1e-3)


def test_the_policy_sees_a_body_where_it_was_put(client):
    before, after, again = (
        predict(client, return_image=True, state=state)["images"]["primary"]
        for state in ({}, with_bodies(red_cube={"position": ELSEWHERE}), {})
    )
    assert before == again != after


def test_the_geometry_has_a_body_where_it_was_put_and_its_moving_bodies_are_those_with_poses(client):
    state = with_bodies(red_cube={"position": ELSEWHERE, "quaternion": TURNED})
    response = client.post("/scenes/geometry", json={"xml_string": PANDA, "state": state})
    nodes = read_glb(response.content).bodies
    reply = execute(client, poses=True)
    (cube,) = (node for node in nodes if node["name"] == "red_cube")
    np.testing.assert_allclose(cube["translation"], ELSEWHERE, atol=1e-6)
    np.testing.assert_allclose(cube["rotation"], [0, 0, 1, 0], atol=1e-6)
    moving = [node["extras"]["body"] for node in nodes if not node["extras"]["static"]]
    assert moving == reply["pose_bodies"]


def test_a_body_keeps_its_orientation_and_the_others_their_places(client):
    plain = execute(client)["initial_state"]["qpos"]
    moved = execute(client, state=with_bodies(red_cube={"position": ELSEWHERE}))["initial_state"]["qpos"]
    assert moved[-21:-18] == ELSEWHERE
    assert moved[:-21] + moved[-18:] == plain[:-21] + plain[-18:]


@pytest.mark.parametrize(
    ("bodies", "code", "message"),
    [
        ({"cup": {"position": ELSEWHERE}}, "unknown_body", "body 'cup' is not known"),
        ({"hand": {"position": ELSEWHERE}}, "scene_state", "'hand' has no free joint"),
        ({"red_cube": {}}, "invalid_request", "position"),
        ({"red_cube": {"position": [0, 0]}}, "invalid_request", "position"),
        ({"red_cube": {"position": [0, 0, 1e9]}}, "invalid_request", "position"),
        ({"red_cube": {"position": ELSEWHERE, "quaternion": [0, 0, 0, 0]}}, "invalid_request", "length zero"),
        ({"red_cube": {"position": ELSEWHERE, "quaternion": [1, 0, 0]}}, "invalid_request", "quaternion"),
        ({"red_cube": {"position": ELSEWHERE, "velocity": [0, 0, 0]}}, "invalid_request", "velocity"),
    ],
)
@pytest.mark.parametrize("ask", [execute, predict])
def test_bodies_that_cannot_be_put_there_are_refused(client, ask, bodies, code, message):
    error = ask(client, 422, state=with_bodies(**bodies))
    assert error["code"] == code
    assert message in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused_at_the_door(client, number):
    body = '{"instruction": "go", "scene_id": "0", "state": {"bodies": {"red_cube": {"position": [0, 0, %s]}}}}'
    response = client.post("/execute", content=body % number, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_request")


def test_poses_count_towards_what_is_kept_and_a_stream_has_them_all(client):
    fields = {"xml_string": CROWDED, "max_steps": 600, "execution_horizon": 4, "poses": True, "preview": True}
    error = execute(client, 422, **fields)
    assert "the states and body poses of this episode would be" in error["message"]
    assert "poses: false" in error["hint"]
    start, *_ = streamed(client, **{**fields, "max_steps": 1})
    bodies, state = len(start[1]["pose_bodies"]), start[1]["state"]
    states = 600 * sum(len(state[name]) for name in ("qpos", "qvel", "ctrl"))
    assert f"would be {states + 600 * 2 * 6 * 7 * bodies} numbers" in error["message"]
    assert execute(client, **{**fields, "max_steps": 4})["reason"] == "max_steps"

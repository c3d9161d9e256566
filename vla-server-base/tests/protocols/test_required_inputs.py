"""What a policy requires and a message lacks is refused by name at every door, and the session stays as it was."""

from collections.abc import Iterator
from contextlib import closing
from types import MappingProxyType

import httpx
import numpy as np
import pytest
from echo_server import echo_app, encoded, wait_until_healthy
from free_port import free_port
from required_inputs_robots import ROBOTS, DoorRobot, OpenpiRobot, Ports, Refused, Seen

from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing import JointEcho

TOP, WRIST = np.full((8, 8, 3), 102, np.uint8), np.full((8, 8, 3), 51, np.uint8)
BOTH = {"top": TOP, "left_wrist": WRIST}
STATE = np.linspace(0.1, 0.8, 8)
NUMBERS = "8 numbers (waist, shoulder, elbow, forearm, wrist_angle, wrist_roll, gripper, lift)"
REQUIRED = "this policy requires"


class TalkingJointEcho(JointEcho):
    """The same policy, but one that reads instructions."""

    changes = MappingProxyType(dict(JointEcho.changes) | {"takes_instruction": True})


def served(adapter) -> Iterator[Ports]:
    zmq, lerobot = free_port(), free_port()
    with serving(echo_app(adapter, zmq_port=zmq, lerobot_port=lerobot)) as url:
        wait_until_healthy(url)
        yield Ports(url=url, zmq=zmq, lerobot=lerobot)


@pytest.fixture(scope="module")
def ports():
    yield from served(JointEcho())


@pytest.fixture(scope="module")
def talking_ports():
    yield from served(TalkingJointEcho())


@pytest.fixture(params=ROBOTS)
def door(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def robot(ports: Ports, door: str):
    with closing(ROBOTS[door](ports)) as robot:
        yield robot


@pytest.fixture
def talking(talking_ports: Ports, door: str):
    with closing(ROBOTS[door](talking_ports)) as robot:
        yield robot


def sessions(robot: DoorRobot) -> dict[str, tuple]:
    """What a server keeps of its robots, but for the time."""
    listed = httpx.get(f"{robot.ports.url}/sessions").json()["sessions"]
    return {each["id"]: (each["step"], each["seed"], each["instruction"]) for each in listed}


def num_seen(action: np.ndarray) -> int:
    """How many observations the policy has seen, as the echo says it."""
    return round(action[5] - STATE.sum())


def refusal(robot: DoorRobot, seen: Seen) -> str:
    """What a robot is told; the sessions stay as they were."""
    before = sessions(robot)
    with pytest.raises(Refused) as refused:
        robot.act(seen)
    assert sessions(robot) == before
    return str(refused.value)


def check_refused_then_right(robot: DoorRobot, right: Seen, wrong: Seen, *words: str) -> None:
    """A wrong first message begins nothing; one between two right ones is no step."""
    for session in sessions(robot):
        httpx.delete(f"{robot.ports.url}/sessions/{session}")
    said = [refusal(robot, wrong)]
    first = robot.act(right)
    said.append(refusal(robot, wrong))
    second = robot.act(right)
    assert [num_seen(first), num_seen(second)] == [1, 2]
    assert max(step for step, *_ in sessions(robot).values()) == 2
    np.testing.assert_allclose(second[7:14], STATE[:7], rtol=1e-6)
    for text in said:
        assert all(word in text for word in words), text


def test_a_missing_camera_is_refused_and_the_right_request_is_the_same_step(robot: DoorRobot):
    right, wrong = Seen(images=BOTH, proprio=STATE), Seen(images={"top": TOP}, proprio=STATE)
    check_refused_then_right(robot, right, wrong, "left_wrist", REQUIRED, "top")


def test_the_first_camera_too(robot: DoorRobot):
    wrong = Seen(images={"left_wrist": WRIST}, proprio=STATE)
    check_refused_then_right(robot, Seen(images=BOTH, proprio=STATE), wrong, "top", REQUIRED, "left_wrist")


def test_a_missing_state_is_refused_with_what_its_numbers_are(robot: DoorRobot):
    check_refused_then_right(robot, Seen(images=BOTH, proprio=STATE), Seen(images=BOTH), NUMBERS, REQUIRED)


def test_a_state_of_another_length_is_refused_with_what_its_numbers_are(robot: DoorRobot):
    wrong = Seen(images=BOTH, proprio=STATE[:7])
    words = ("expected 8 numbers (waist, shoulder", "got 7")
    check_refused_then_right(robot, Seen(images=BOTH, proprio=STATE), wrong, *words)


def test_a_missing_instruction_is_refused(talking: DoorRobot):
    right = Seen(images=BOTH, proprio=STATE, instruction="lift it")
    check_refused_then_right(talking, right, Seen(images=BOTH, proprio=STATE), "instruction")


def test_a_policy_that_reads_no_instruction_takes_one_and_says_so(ports: Ports):
    with closing(OpenpiRobot(ports)) as robot:
        assert (robot.greeting["takes_instruction"], robot.greeting["requires_proprio"]) == (False, True)
        assert [camera["required"] for camera in robot.greeting["cameras"]] == [True, True]
        assert robot.greeting["needs_wrist_camera"]
    said = predicted(ports, instruction="lift it")["notes"]
    assert said == ["this policy reads no instruction: it does the one task that it was trained for"]
    assert "notes" not in predicted(ports)


def predicted(ports: Ports, status: int = 200, **changes) -> dict:
    images = {name: encoded(image) for name, image in BOTH.items()}
    body = {"images": images, "proprio": STATE.tolist()} | changes
    given = {name: value for name, value in body.items() if value is not None}
    response = httpx.post(f"{ports.url}/predict", json=given, timeout=30)
    assert response.status_code == status, response.text
    return response.json()


def test_predict_names_all_that_is_missing_in_its_own_words(ports: Ports):
    error = predicted(ports, 422, images={"top": encoded(TOP)}, proprio=None)["error"]
    assert error == {
        "code": "image",
        "message": f"images.left_wrist and proprio of {NUMBERS} are missing:"
        " this policy requires them in every observation; the request has: images.top",
        "hint": "send images.left_wrist; GET /info says what the policy requires",
    }
    assert predicted(ports, 422, proprio=None)["error"]["code"] == "invalid_request"


def test_a_past_observation_is_as_complete_as_the_present_one(ports: Ports):
    top, whole = {"top": encoded(TOP)}, {name: encoded(image) for name, image in BOTH.items()}
    state = STATE.tolist()
    error = predicted(ports, 422, history=[{"images": top, "proprio": state}])["error"]
    assert error["message"].startswith("history.0.images.left_wrist is missing")
    error = predicted(ports, 422, history=[{"images": whole}])["error"]
    assert error["message"].startswith("history.0.proprio of 8 numbers")
    assert predicted(ports, history=[{"images": whole, "proprio": state}])["actions"][0][5] == pytest.approx(2 + 3.6)


def test_goal_images_are_not_for_a_policy_of_one_task(ports: Ports):
    error = predicted(ports, 422, goal_images={"top": encoded(TOP)})["error"]
    assert error["hint"] == "leave them out: it does one task"


def test_info_says_what_the_policy_requires(ports: Ports):
    policy = httpx.get(f"{ports.url}/info").json()["policy"]
    assert [(camera["name"], camera["required"]) for camera in policy["cameras"]] == [
        ("top", True),
        ("left_wrist", True),
    ]
    assert policy["action_formats"] == ["raw"]
    assert (policy["proprio_dim"], len(policy["proprio_names"]), policy["proprio_units"]) == (8, 8, ["rad"] * 8)
    assert (policy["requires_proprio"], policy["takes_instruction"], policy["control_hz"]) == (True, False, 50)
    assert (policy["execution"], policy["execution_horizon"], policy["supports_rtc"]) == ("receding", 1, False)
    assert [tensor["name"] for tensor in httpx.get(f"{ports.url}/v2/models/echo").json()["inputs"]] == [
        "image_top",
        "image_left_wrist",
        "proprio",
    ]


def test_raw_is_the_whole_action(ports: Ports):
    reply = predicted(ports, action_format="raw")
    assert (reply["action_format"], len(reply["action"]), len(reply["actions"])) == ("raw", 14, 16)
    assert predicted(ports, 422, action_format="standard")["error"]["hint"] == "available: raw"

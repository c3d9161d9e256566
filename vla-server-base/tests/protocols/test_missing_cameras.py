"""A camera that misses a frame and comes back, over real sockets: an answer each time, nothing left behind."""

from contextlib import closing
from functools import partial

import httpx
import numpy as np
import pytest
from echo_server import echo_app, of_one_colour, wait_until_healthy
from free_port import free_port
from websockets.sync.client import connect

from vla_client.message_pack import pack, unpack
from vla_server_base.errors import ProtocolError
from vla_server_base.server.uvicorn_server import serving
from vla_server_base.testing.protocol_robots import Gr00tRobot, OpenpiRobot, OpenvlaRobot, ProtocolRobot, VlaEvalRobot

SEEN, WRIST = np.full((8, 8, 3), 102, np.uint8), np.full((8, 8, 3), 51, np.uint8)
IMAGE, IMAGE_WRIST = of_one_colour(102, 102, 102), of_one_colour(51, 51, 51)
MISSES = [(SEEN, WRIST), (SEEN, None), (SEEN, WRIST), (None, WRIST), (SEEN, WRIST), (None, WRIST), (SEEN, None)]


@pytest.fixture(scope="module")
def server():
    """A server's URL, and its port for GR00T's clients."""
    port = free_port()
    with serving(echo_app(zmq_port=port)) as url:
        wait_until_healthy(url)
        yield url, port


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server[0], timeout=30) as client:
        yield client


@pytest.fixture(params=["openpi", "vla-eval", "act", "gr00t"])
def robot(request: pytest.FixtureRequest, server):
    url, port = server
    made = {"openpi": OpenpiRobot, "vla-eval": VlaEvalRobot, "act": partial(OpenvlaRobot, session_id="misses")}
    make = partial(Gr00tRobot, port) if request.param == "gr00t" else partial(made[request.param], url)
    with closing(make()) as robot:
        yield robot


def of(action: np.ndarray) -> list:
    """What an action says was seen by either camera; 0 for one that missed the frame."""
    return [pytest.approx(action[0]), pytest.approx(action[3])]


def test_any_camera_misses_a_frame_and_comes_back_on_every_protocol(robot: ProtocolRobot):
    robot.begin(seed=3)
    for picture, wrist in MISSES:
        found = robot.act(picture, "go", wrist)
        assert of(found) == [0.0 if picture is None else 0.4, 0.0 if wrist is None else 0.2]


def predicted(client: httpx.Client, **body) -> dict:
    response = client.post("/predict", json={"instruction": "go", "seed": 1, **body})
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: httpx.Client, code: str, **body) -> str:
    response = client.post("/predict", json={"instruction": "go", **body})
    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    return response.json()["error"]["message"]


def test_a_step_of_the_history_may_miss_any_camera(client: httpx.Client):
    both = {"image": IMAGE, "image_wrist": IMAGE_WRIST}
    for past in ({"image": IMAGE}, {"image_wrist": IMAGE_WRIST}, both):
        assert of(predicted(client, **both, history=[past])["action"]) == [0.4, 0.2]
        if "image" in past:
            assert of(predicted(client, image_wrist=IMAGE_WRIST, history=[past])["action"]) == [0.0, 0.2]


def test_a_token_resumes_across_a_missed_frame(client: httpx.Client):
    predicted(client, session_id="a", image=IMAGE, image_wrist=IMAGE_WRIST)
    missed = predicted(client, session_id="a", image_wrist=IMAGE_WRIST, return_token=True)
    client.delete("/sessions/a")
    back = predicted(client, session_token=missed["session"]["token"], image=IMAGE)
    assert (of(back["action"]), back["session"]["step"]) == ([0.4, 0.0], 2)


def test_a_window_that_never_shows_the_first_camera_is_refused(client: httpx.Client):
    said = "no image of the camera 'primary' in the last 2 observations; they show: wrist"
    wrist = {"image_wrist": IMAGE_WRIST}
    for names in ({}, {"history": [wrist]}, {"session_id": "blind"}):
        assert said in refused(client, "image", **wrist, **names)
    predicted(client, session_id="sees", image=IMAGE)
    predicted(client, session_id="sees", **wrist)
    assert said in refused(client, "image", session_id="sees", **wrist)
    assert of(predicted(client, session_id="sees", image=IMAGE)["action"]) == [0.4, 0.0]


def test_so_it_is_on_every_protocol_and_the_robot_may_go_on(robot: ProtocolRobot):
    robot.begin(seed=3)
    with pytest.raises(
        (ProtocolError, TypeError, KeyError, ValueError, httpx.HTTPStatusError)
    ):  # what comes is no action
        robot.act(None, "go", WRIST)
    robot.begin(seed=3)
    assert of(robot.act(SEEN, "go")) == [0.4, 0.0]


def test_the_only_picture_of_a_known_other_camera_is_not_taken_for_the_first(server):
    with connect(server[0].replace("http", "ws", 1) + "/vla-eval", compression=None) as socket:
        payload = {"images": {"wrist": WRIST}, "task_description": "go"}
        socket.send(pack({"type": "observation", "payload": payload, "seq": 1, "timestamp": 0.0}))
        assert "they show: wrist" in unpack(socket.recv(timeout=30))["payload"]["error"]

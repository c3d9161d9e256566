"""A real server of each policy type: what comes out of its socket is what LeRobot itself predicts."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from lerobot_itself import TASK, LeRobotItself
from policy_requests import seen_by
from policy_servers import ask, body, pictures, served


@pytest.fixture(scope="module")
def client(kind, checkpoint, tmp_path_factory) -> Iterator[httpx.Client]:
    with served(checkpoint(kind), tmp_path_factory.mktemp("cache")) as client:
        yield client


@pytest.fixture(scope="module")
def itself(kind, checkpoint) -> LeRobotItself:
    return LeRobotItself(checkpoint(kind))


def test_a_served_chunk_is_what_lerobot_predicts(client, adapter, itself):
    *history, last = [seen_by(adapter.spec, seed) for seed in range(adapter.spec.window)]
    past = [{"images": pictures(each), "proprio": each.proprio.tolist()} for each in history]
    reply = ask(client, body(last, TASK, history=past, seed=7))
    assert np.array_equal(np.float32(reply["actions"]), itself.chunk([*history, last], seed=7))


def test_a_session_keeps_the_window_and_each_step_repeats_from_seed_and_step(client, adapter):
    window = adapter.spec.window
    observations = [seen_by(adapter.spec, seed) for seed in range(window + 1)]
    session = {"session_id": "arm", "execution": "receding", "seed": 3}
    *_, reply = [ask(client, body(each, TASK, **session)) for each in observations]
    *past, last = observations[-window:]
    history = [{"images": pictures(each), "proprio": each.proprio.tolist()} for each in past]
    again = ask(client, body(last, TASK, history=history, seed=3, step=window))
    assert again["actions"] == reply["actions"]


def test_the_server_says_the_checkpoints_hash(client, adapter):
    (model,) = client.get("/models").json()["models"]
    assert model["weights_hash"] == adapter.spec.details["checkpoint_hash"]


def test_a_request_without_a_camera_or_the_state_is_refused(client, adapter):
    whole = body(seen_by(adapter.spec), TASK)
    for field, lacking in (("proprio", {"proprio": None}), ("images", {"images": {}})):
        reply = client.post("/predict", json={**whole, **lacking})
        assert (reply.status_code, field in reply.text) == (422, True), reply.text

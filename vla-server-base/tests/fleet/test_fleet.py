"""A fleet on two nodes: its answers are those of one server, whatever is lost meanwhile."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from disturbed_fleet import (
    NUM_SESSIONS,
    TESTED_EVENTS,
    Fleet,
    check_equal_to_one_server,
    report,
    running,
    wait_until,
)
from fleet_robots import robots_of
from one_server import one_server
from ray.cluster_utils import Cluster
from window_echo import EchoSettings

from vla_server_base.request_inputs import encode_png

SCENE = """<mujoco><worldbody>
  <light pos="0 0 3"/><geom type="box" size=".1 .1 .1" rgba="1 0 0 1"/>
  <camera name="primary" pos="0 -1 1" xyaxes="1 0 0 0 1 1"/><camera name="wrist" pos="0 0 1"/>
</worldbody></mujoco>"""


@pytest.fixture(scope="module")
def fleet(cluster_with_serve: Cluster) -> Iterator[Fleet]:
    fleet = Fleet(cluster_with_serve)
    fleet.deploy(EchoSettings())
    yield fleet
    fleet.make_whole()
    fleet.end()


@pytest.fixture(scope="module")
def alone() -> Iterator[str]:
    """Return the address of a server with the policy in its own process."""
    with one_server() as url:
        yield url


@pytest.mark.parametrize("event", TESTED_EVENTS)
def test_no_answer_is_lost_or_changed(fleet, event):
    fleet.make_whole()
    robots = robots_of(fleet.url, NUM_SESSIONS, event.__name__)
    with running(robots):
        event(fleet)
        wait_until(fleet.is_whole, "the fleet is whole again")
    report(event.__name__, robots)
    check_equal_to_one_server(robots)


@pytest.mark.parametrize(
    "body",
    [
        {"instruction": ""},
        {"dataset": "unknown"},
        {"num_samples": 0},
        {"image": encode_png(np.zeros((8, 8, 3), np.uint8)), "instruction": "go", "dataset": "unknown"},
    ],
)
def test_a_refusal_is_that_of_one_server(fleet, alone, body):
    refusals = [httpx.post(f"{url}/predict", json=body) for url in (fleet.url, alone)]
    assert [each.status_code for each in refusals] == [422, 422]
    first, second = ({**each.json(), "request_id": None} for each in refusals)
    assert first == second


def test_an_answer_after_the_deadline_is_none(fleet):
    body = {"image": encode_png(np.zeros((8, 8, 3), np.uint8)), "instruction": "go", "session_id": "late"}
    late = httpx.post(f"{fleet.url}/predict", json={**body, "deadline_ms": 0.01})
    assert late.status_code == 504
    assert httpx.post(f"{fleet.url}/predict", json=body).status_code == 200


def test_another_policy_with_scenes_drawn_on_the_cluster(fleet, alone):
    """A second application on the same cluster: its policy, its port, and its scene workers on any node."""
    other = Fleet(fleet.cluster, "other", model_replicas=1, ingress_replicas=1, scene_cpus=0.1)
    other.deploy(EchoSettings(model="other"))
    try:
        body = {"xml_string": SCENE, "instruction": "pick up the red cube", "seed": 3}
        replies = [httpx.post(f"{url}/predict", json=body, timeout=60) for url in (other.url, alone)]
        assert [each.status_code for each in replies] == [200, 200], replies[0].text
        of_other, of_one_server = (each.json() for each in replies)
        assert of_other["actions"] == of_one_server["actions"]
        assert of_other["model"] != httpx.get(f"{fleet.url}/health").json()["model"]
    finally:
        other.end()

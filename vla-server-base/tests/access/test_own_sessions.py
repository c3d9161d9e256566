"""What one key begins, no other key sees, continues, resets, watches, resumes or ends."""

import httpx
import pytest
from echo_server import wait_until
from keyed_server import IMAGE

from vla_server_base.testing.protocol_robots import OpenpiRobot, OpenvlaRobot


def test_two_keys_may_both_have_a_session_of_one_name(keyed):
    steps = [keyed.predict(name, "arm").json()["session"]["step"] for name in ("arm-1", "arm-1", "arm-2", "arm-1")]
    assert steps == [0, 1, 0, 2]


def test_another_keys_session_cannot_be_ended_or_watched(keyed):
    keyed.predict("arm-1", "arm")
    with keyed.client("arm-2") as other, keyed.client("arm-1") as own:
        assert other.get("/sessions").json()["sessions"] == []
        assert other.delete("/sessions/arm").status_code == 404
        assert other.get("/sessions/arm/events").status_code == 404
        assert own.delete("/sessions/arm").status_code == 200


def test_a_reset_by_another_key_leaves_a_session_as_it_is(keyed):
    keyed.predict("arm-1", "arm")
    robot = OpenvlaRobot(keyed.url, "arm", keyed.secrets["arm-2"])
    robot.begin(7)
    robot.close()
    assert keyed.predict("arm-1", "arm").json()["session"]["step"] == 1


def test_a_token_resumes_for_its_own_key_alone(keyed):
    token = keyed.predict("arm-1", "arm", return_token=True).json()["session"]["token"]
    body = {"instruction": "go", "image": IMAGE, "session_token": token}
    with keyed.client("arm-2") as other, keyed.client("arm-1") as own:
        refused = other.post("/predict", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_token")
        assert own.post("/predict", json=body).json()["session"]["step"] == 1


def test_the_load_counts_the_sessions_of_all(keyed):
    with keyed.client("arm-2") as other:
        before = other.get("/load").json()["sessions"]["num"]
        keyed.predict("arm-1", "arm")
        sessions = other.get("/load").json()["sessions"]
    assert sessions["num"] == before + 1
    assert "arm" not in str(sessions)


@pytest.mark.parametrize("route", ["", "/events"])
def test_another_keys_episode_does_not_exist(keyed, route):
    with keyed.client("arm-1") as own, keyed.client("arm-2") as other:
        body = {"instruction": "go", "xml_string": own.get("/scenes/panda/tabletop").text, "max_steps": 1}
        episode_id = own.post("/episodes", json=body).json()["episode_id"]
        assert other.get("/episodes").json()["episodes"] == []
        assert other.get(f"/episodes/{episode_id}{route}").status_code == 404
        assert other.patch(f"/episodes/{episode_id}", json={"status": "paused"}).status_code == 404
        assert other.delete(f"/episodes/{episode_id}").status_code == 404
        assert own.delete(f"/episodes/{episode_id}").status_code == 200


def test_a_watcher_whose_key_is_revoked_sees_no_more_steps(keyed):
    robot = OpenpiRobot(keyed.url, keyed.secrets["arm-1"])
    robot.close()
    keyed.predict("arm-1", "arm")
    with keyed.client("arm-1") as client, client.stream("GET", "/sessions/arm/events") as events:
        parts = events.iter_raw()
        next(parts)
        keyed.revoke("arm-1")
        assert keyed.predict("arm-1", "arm").status_code == 401
    wait_until(lambda: httpx.get(f"{keyed.url}/health").is_success)

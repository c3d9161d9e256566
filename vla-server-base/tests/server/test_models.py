"""/models: a new checkpoint takes over without a restart, and what robots have begun stays as it is."""

import gc
import weakref

import pytest
from echo_server import echo_app, wait_until, wait_until_healthy
from several_models import TASK, Lab, unavailable

from vla_server_base.server.uvicorn_server import serving


@pytest.fixture
def lab():
    with Lab().open() as lab:
        yield lab


def test_a_model_that_is_loaded_takes_new_requests_once_it_is_warm(lab):
    adapter = lab.prepare(2, is_open=False)
    reply = lab.load(2)
    assert (reply.status_code, reply.headers["location"], reply.json()["state"]) == (202, "/models/m2", "loading")
    assert lab.number() == (1.0, "numbered://1")
    adapter.gate.set()
    lab.wait_for("m2", "serving")
    assert lab.number() == (2.0, "m2")
    assert lab.client.get("/info").json()["model"] == "m2"


def test_a_session_stays_on_its_model_through_resets_and_new_tasks(lab):
    lab.number(session_id="arm")
    lab.bring_up(2)
    assert lab.number(session_id="arm") == (1.0, "numbered://1")
    assert lab.number(session_id="arm", reset=True) == (1.0, "numbered://1")
    assert lab.number(session_id="arm", instruction="another") == (1.0, "numbered://1")
    assert lab.number(session_id="new") == (2.0, "m2")
    sessions = lab.client.get("/sessions").json()["sessions"]
    assert {each["id"]: each["model"] for each in sessions} == {"arm": "numbered://1", "new": "m2"}
    assert (lab.model("numbered://1")["state"], lab.model("numbered://1")["sessions"]) == ("draining", 1)


def test_a_session_changes_its_model_only_in_a_reset_that_names_it(lab):
    lab.number(session_id="arm")
    lab.bring_up(2)
    refused = lab.predict(session_id="arm", model="m2")["error"]
    assert (refused["code"], "numbered://1" in refused["message"]) == ("invalid_request", True)
    assert lab.number(session_id="arm", model="m2", reset=True) == (2.0, "m2")
    assert lab.number(session_id="arm") == (2.0, "m2")


def test_a_token_resumes_its_session_on_its_own_model_or_says_that_it_is_gone(lab):
    token = lab.predict(session_id="arm", return_token=True)["session"]["token"]
    lab.bring_up(2)
    lab.client.delete("/sessions/arm")
    assert lab.number(session_token=token) == (1.0, "numbered://1")
    assert lab.client.delete("/models/numbered://1", params={"force": True}).status_code == 200
    error = lab.predict(session_token=token)["error"]
    assert (error["code"], "is no longer held" in error["message"]) == ("invalid_token", True)


def test_a_roll_back_needs_no_load(lab):
    lab.bring_up(2)
    lab.number(session_id="new")
    reply = lab.client.post("/models/numbered://1/serve", json={}).json()
    assert reply["state"] == "serving"
    assert (lab.number(), lab.number(session_id="new")) == ((1.0, "numbered://1"), (2.0, "m2"))


def test_a_request_may_name_any_model_that_is_held(lab):
    lab.bring_up(2, mode="hold")
    assert (lab.number(), lab.number(model="m2")) == ((1.0, "numbered://1"), (2.0, "m2"))
    error = lab.predict(model="m3")["error"]
    assert (error["code"], error["hint"]) == ("unknown_model", "available: m2, numbered://1")


@pytest.mark.parametrize(
    ("error", "reason"), [(unavailable("the hub is gone"), "the hub is gone"), (MemoryError(), "not enough memory")]
)
def test_a_load_that_fails_leaves_the_old_one_serving(lab, error, reason):
    lab.number(session_id="arm")
    lab.prepare(2).error = error
    assert lab.load(2).status_code == 202
    assert reason in lab.wait_for("m2", "broken")["reason"]
    assert (lab.number(session_id="arm"), lab.number()) == ((1.0, "numbered://1"),) * 2
    assert lab.client.get("/health").status_code == 200


def test_a_model_of_numbers_that_are_not_finite_is_broken(lab):
    lab.prepare(2).number = float("nan")
    lab.load(2)
    assert "not finite" in lab.wait_for("m2", "broken")["reason"]
    lab.bring_up(2)


def test_another_contract_is_refused_with_what_differs_unless_it_is_allowed(lab):
    lab.prepare(2, horizon=9)
    lab.load(2)
    assert "horizon 9 instead of 4" in lab.wait_for("m2", "broken")["reason"]
    lab.prepare(2, horizon=9)
    lab.bring_up(2, allow_different_contract=True)
    assert len(lab.predict()["actions"]) == 9
    error = lab.client.post("/models/numbered://1/serve", json={}).json()["error"]
    assert (error["code"], "horizon 4 instead of 9" in error["message"]) == ("contract_differs", True)


def test_one_model_is_loaded_at_a_time(lab):
    adapter = lab.prepare(2, is_open=False)
    lab.load(2)
    assert (lab.load(3).status_code, lab.load(3).json()["error"]["code"]) == (409, "model_conflict")
    adapter.gate.set()
    lab.wait_for("m2", "serving")
    lab.bring_up(3)


def test_a_model_is_freed_when_it_is_unloaded(lab):
    adapter = weakref.ref(lab.prepare(2))
    lab.bring_up(2)
    lab.number(session_id="arm")
    lab.client.post("/models/numbered://1/serve", json={})
    assert lab.client.delete("/models/m2").json()["error"]["code"] == "model_conflict"
    assert lab.client.delete("/models/m2", params={"force": True}).status_code == 200
    wait_until(lambda: (gc.collect() and adapter() is None) or adapter() is None)
    assert (lab.model("m2")["error"]["code"], lab.number(session_id="arm")) == ("not_found", (1.0, "numbered://1"))


def test_a_model_that_is_no_longer_used_or_kept_is_unloaded():
    with Lab(keep_models_s=0).open() as lab:
        lab.number(session_id="arm")
        lab.bring_up(2)
        assert lab.number(session_id="arm") == (1.0, "numbered://1")
        lab.client.delete("/sessions/arm")
        wait_until(lambda: "error" in lab.model("numbered://1"))
        assert [each["id"] for each in lab.client.get("/models").json()["models"]] == ["m2"]


def test_the_model_that_serves_cannot_be_unloaded(lab):
    reply = lab.client.delete("/models/numbered://1", params={"force": True})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "model_conflict")


@pytest.mark.parametrize("source", ["hf://somebody/else", "/etc/passwd", "numbered:/1", "../numbered://x"])
def test_only_permitted_checkpoints_are_loaded(lab, source):
    reply = lab.client.post("/models", json={"model": source})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")


def test_models_are_fixed_unless_the_setting_says_otherwise():
    with Lab(models="off").open() as lab:
        replies = [lab.load(2), lab.client.post("/models/x/serve", json={}), lab.client.delete("/models/x")]
        assert [reply.status_code for reply in replies] == [403] * 3
        assert lab.client.get("/models").json()["serving"] == "numbered://1"


def test_an_app_of_one_adapter_loads_no_other_model():
    with serving(echo_app(models="on")) as url, Lab.at(url) as client:
        wait_until_healthy(url)
        assert client.post("/models", json={"model": "bundled://x"}).status_code == 403
        assert client.post("/predict", json=TASK).json()["model"] == "echo"

"""A shadow predicts what the serving model has answered; robots notice nothing of it, nor of a flood of changes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from echo_server import wait_until
from several_models import Lab


@pytest.fixture
def lab():
    with Lab().open() as lab:
        yield lab


def test_a_shadow_reports_how_its_actions_differ_and_answers_nothing(lab):
    lab.bring_up(3, mode="shadow", threshold=0.5)
    assert lab.number(session_id="arm", seed=5) == (1.0, "numbered://1")
    wait_until(lambda: lab.model("m3")["shadow"]["num_compared"] == 1)
    shadow = lab.model("m3")["shadow"]
    assert (shadow["differences"]["dx"], shadow["differences"]["gripper"]) == (
        {"mean": 2, "max": 2},
        {"mean": 0, "max": 0},
    )
    assert (shadow["share_over_threshold"], shadow["num_failed"]) == (1.0, 0)
    assert shadow["last"] == [{"session": "arm", "step": 0, "seed": 5, "max_difference": 2.0}]


def test_a_shadow_that_hangs_holds_up_no_robot_and_can_be_deleted(lab):
    adapter = lab.prepare(3)
    lab.bring_up(3, mode="shadow")
    adapter.device.clear()
    adapter.has_begun.clear()
    lab.number(session_id="arm")
    assert adapter.has_begun.wait(30)
    assert [lab.number(session_id="arm") for _ in range(5)] == [(1.0, "numbered://1")] * 5
    assert lab.client.delete("/models/m3").status_code in (200, 409)
    adapter.device.set()


def test_every_action_is_of_the_model_that_its_reply_names_while_models_change(lab):
    lab.bring_up(2)
    names = {"numbered://1": 1.0, "m2": 2.0}

    def ask(number: int) -> tuple[float, str]:
        if number % 10 == 0:
            lab.client.post(f"/models/{['numbered://1', 'm2'][number // 10 % 2]}/serve", json={})
        return lab.number(**({"session_id": f"arm{number}"} if number % 2 else {}))

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(120)))
    assert all(names[model] == action for action, model in answers)
    assert {model for _, model in answers} == set(names)


def test_of_fifty_loads_at_once_one_begins(lab):
    adapter = lab.prepare(2, is_open=False)
    with ThreadPoolExecutor(50) as threads:
        statuses = [reply.status_code for reply in threads.map(lambda _: lab.load(2), range(50))]
    assert sorted(statuses) == [202] + [409] * 49
    adapter.gate.set()
    lab.wait_for("m2", "serving")

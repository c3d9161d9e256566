"""Summaries of trials: intervals, kinds of failures, and results that survive an interruption."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_server_base.errors import RequestError
from vla_server_base.tabletop.results import Results
from vla_server_base.tabletop.summary import grounding_table, success_table, summarize, wilson_interval
from vla_server_base.tabletop.trial_result import TrialResult

SETTINGS = {"policy": "abc", "window": 2, "ensemble_weight": None}


def result(task="pick_up_red_cube", seed=0, success=True, num_steps=15, lifted=(), moved=None):
    return TrialResult(
        task=task,
        seed=seed,
        instruction="do it",
        success=success,
        reason="success" if success else "max_steps",
        num_steps=num_steps,
        lifted=lifted,
        moved=moved,
        predict_ms=1.0,
        duration_s=1.0,
    )


@pytest.mark.parametrize(
    ("num_done", "num_tried", "low", "high"),
    # By hand: none of n gives 0 to z^2 / (n + z^2), half of n gives 1/2 -+ z / (2 sqrt(n + z^2)).
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (200, 200, 0.9812, 1.0)],
)
def test_wilsons_interval_is_what_its_formula_comes_to_by_hand(num_done, num_tried, low, high):
    assert wilson_interval(num_done, num_tried) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 2000), st.data())
def test_an_interval_holds_its_rate_and_is_mirrored_by_the_failures(num_tried, data):
    num_done = data.draw(st.integers(0, num_tried))
    low, high = wilson_interval(num_done, num_tried)
    assert 0 <= low < high <= 1
    assert low - 1e-9 <= num_done / num_tried <= high + 1e-9
    mirrored = wilson_interval(num_tried - num_done, num_tried)
    assert (1 - high, 1 - low) == pytest.approx(mirrored)


def test_failures_are_distinguished_by_the_object_that_moved():
    failed = [result(success=False, moved=moved) for moved in ("red_cube", "blue_cube", "green_sphere", None)]
    summary = summarize([*failed, result(num_steps=10), result(num_steps=20)])
    assert (summary.num_done, summary.num_tried, summary.median_steps) == (2, 6, 15)
    assert (summary.num_moved_another, summary.num_moved_none) == (2, 1)
    assert summarize(failed).median_steps is None


def test_a_table_has_a_row_for_each_task_each_verb_and_all():
    results = [result(), result("pick_up_blue_cube", success=False), result("push_left_red_cube")]
    rows = dict(re.findall(r"^\| (\S+) \| (\d+ of \d+) \|", success_table(results), re.MULTILINE))
    assert rows == {
        "pick_up_red_cube": "1 of 1",
        "pick_up_blue_cube": "0 of 1",
        "push_left_red_cube": "1 of 1",
        "**pick_up**": "1 of 2",
        "**push_left**": "1 of 1",
        "**all**": "2 of 3",
    }


def test_grounding_counts_the_object_that_was_lifted_first():
    both = ("green_sphere", "red_cube")
    results = [result(lifted=("red_cube",)), result(seed=1, lifted=both), result("pick_up_blue_cube", success=False)]
    table = grounding_table(results)
    assert "| red_cube | 1 | 0 | 1 | 0 |" in table
    assert "| blue_cube | 0 | 0 | 0 | 1 |" in table
    assert "asked for is lifted first in 1 of 3" in table
    assert "not asked for is lifted first in 1 of 6" in table


def test_an_evaluation_resumes_where_it_was_interrupted(tmp_path):
    path = tmp_path / "deep" / "results.jsonl"
    first = Results(path, SETTINGS, {"date": "then"})
    first.add("suite", result(lifted=("red_cube",)))
    first.add("grounding", result())
    path.write_text(path.read_text() + '{"part": "suite", "tas')
    again = Results(path, SETTINGS, {"date": "now"})
    assert again.found == first.found
    again.add("suite", result(seed=1))
    assert [kept.seed for kept in Results(path, SETTINGS, {}).of("suite")] == [0, 1]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_results_of_other_settings_are_not_resumed(tmp_path):
    path = tmp_path / "results.jsonl"
    Results(path, SETTINGS, {})
    with pytest.raises(RequestError, match="window 2, now 1"):
        Results(path, {**SETTINGS, "window": 1}, {})
    path.write_text("# Notes\n")
    with pytest.raises(RequestError, match="has no results"):
        Results(path, SETTINGS, {})

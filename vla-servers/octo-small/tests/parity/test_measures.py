"""Measures, the report, and the inputs of goldens: small parts that a wrong number must not slip through."""

import json
from pathlib import Path

import numpy as np
import pytest

from octo_service.errors import InputError
from octo_service.parity.inputs import build_inputs, fingerprint, goal, image, image_windows, tree
from octo_service.parity.measures import Comparison, largest, num_different, spread
from octo_service.parity.report import report
from octo_service.parity.suites import compare_all


def comparison(error: float = 0.0, tolerance: float = 1e-3, golden: str = "tiny", case: str = "one") -> Comparison:
    return Comparison(golden=golden, case=case, quantity="actions", max_error=error, tolerance=tolerance)


@pytest.mark.parametrize(
    ("error", "tolerance", "passed"),
    [(0.0, 0.0, True), (1e-3, 1e-3, True), (1.1e-3, 1e-3, False), (np.nan, 1e9, False), (np.inf, 1e9, False)],
)
def test_an_error_passes_up_to_its_tolerance_and_not_a_number_never(error: float, tolerance: float, passed: bool):
    assert comparison(error, tolerance).passed == passed


def test_the_largest_difference_counts_whatever_its_sign():
    assert largest([[1, -3], [2, 0]]) == 3
    assert np.isnan(largest([0, np.nan]))


def test_entries_that_differ_are_counted():
    assert num_different([1, 2, 3], [1, 0, 0]) == 2
    assert num_different(np.array([np.nan]), np.array([np.nan])) == 1


def test_a_dimension_that_is_not_normalized_is_measured_in_its_own_unit():
    statistics = {"std": np.array([2.0, 4.0]), "mask": np.array([True, False])}
    assert spread(statistics).tolist() == [2, 1]
    assert spread({"std": np.array([2.0, 4.0])}).tolist() == [2, 4]


def test_a_report_has_a_table_for_each_set_and_says_how_many_failed():
    text = report([comparison(), comparison(0.25, case="two"), comparison(golden="base")])
    assert "3 comparisons, 1 out of tolerance" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## tiny", "## base"]
    assert "| two | actions | 0.25 | 0.001 | FAILED |" in text
    assert "| one | actions | 0 | 0.001 |  |" in text


def test_a_report_of_nothing_says_so():
    assert "0 comparisons, 0 out of tolerance" in report([])


def test_an_image_depends_on_its_name_and_size_alone():
    assert image("a", 16, 24).shape == (16, 24, 3)
    np.testing.assert_array_equal(image("a", 16, 24), image("a", 16, 24))
    assert (image("a", 16, 24) != image("b", 16, 24)).any()


def test_every_frame_and_goal_of_a_batch_is_another_image():
    drawn = [*image_windows("a", 2, 3, 16).reshape(6, 16, 16, 3), *goal("a", 2, 16)]
    assert len({each.tobytes() for each in drawn}) == 8


def test_a_fingerprint_tells_type_shape_and_numbers_apart_and_not_the_layout():
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    others = [array.astype(np.int64), array.reshape(3, 2), array + 1]
    assert fingerprint(np.asfortranarray(array)) == fingerprint(array)
    assert all(fingerprint(other) != fingerprint(array) for other in others)


def test_a_description_draws_what_it_says_and_then_changes_it():
    spec = {"fn": "float", "args": [[[1, 2], [3, 4]]], "set": [[[0, 1], 9]], "zero_rows": [1]}
    assert tree({"a": {"b": spec}})["a"]["b"].tolist() == [[1, 9], [0, 0]]


def test_a_drawing_that_differs_from_the_recorded_one_is_an_error():
    spec = {"fn": "bool", "args": [[True]]}
    tree({**spec, "sha": fingerprint(np.array([True]))})
    with pytest.raises(AssertionError, match="is drawn differently here"):
        tree({**spec, "sha": fingerprint(np.array([False]))})


def test_a_mask_of_actions_follows_its_rules_row_by_row():
    rules = [["horizon", 0, 1], ["dim", 1, 1], ["random", 2, 0.5]]
    mask = tree({"fn": "padmask", "args": ["a", [3, 1, 2, 2], rules]})
    assert mask[0, 0].tolist() == [[True, True], [False, False]]
    assert mask[1, 0].tolist() == [[True, False], [True, False]]


def test_the_goals_of_a_case_are_drawn_and_its_texts_are_kept():
    case = {
        "observation": {"timestep_pad_mask": {"fn": "bool", "args": [[[True]]]}},
        "task": {"texts": ["a"], "goals": {"image_primary": {"fn": "goal", "args": ["a", 1, 16]}}},
    }
    observation, task = build_inputs(case)
    assert observation["timestep_pad_mask"].tolist() == [[True]]
    assert task["texts"] == ["a"]
    np.testing.assert_array_equal(task["goals"]["image_primary"], goal("a", 1, 16))


def test_the_inputs_of_every_recorded_case_are_those_that_the_reference_saw(goldens: Path):
    """Their fingerprints are beside them: what is drawn differently here would be compared for nothing."""
    for file in (goldens / "octo" / "golden_tiny_cases.json", goldens / "variants" / "v1_0" / "cases.json"):
        cases = json.loads(file.read_text())
        for case in cases.get("cases", cases).values():
            build_inputs(case)


def test_a_folder_without_goldens_and_a_set_that_is_not_known_are_refused(tmp_path: Path, goldens: Path):
    with pytest.raises(InputError, match="there are no goldens in"):
        list(compare_all(tmp_path))
    with pytest.raises(InputError, match=r"no goldens are named tiniest; known: .*resize"):
        list(compare_all(goldens, only=("tiniest",)))


def test_the_sets_that_are_named_are_compared_alone(goldens: Path):
    compared = list(compare_all(goldens, only=("resize",)))
    assert {each.golden for each in compared} == {"resize"}
    assert all(each.passed for each in compared)

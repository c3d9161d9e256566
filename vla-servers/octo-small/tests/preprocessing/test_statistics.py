"""Dataset statistics: which, and what un-normalizing with them gives."""

from pathlib import Path

import numpy as np
import pytest

from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.errors import CheckpointError, InputError
from octo_service.model import OctoModel
from octo_service.preprocessing.dataset_statistics import check_statistics, dataset_names, statistics_of
from octo_service.preprocessing.statistics import (
    Statistics,
    action_statistics,
    un_normalize,
)

GOLDENS = Path(__file__).parents[1] / "goldens"
NESTED = load_checkpoint(GOLDENS / "variants/discrete/ckpt").dataset_statistics
FLAT = load_checkpoint(GOLDENS / "variants/aloha_l1/ckpt").dataset_statistics
ONE = {
    "only": {
        "action": {
            "mean": [1.0, 2.0, 3.0],
            "std": [2.0, 4.0, 8.0],
            "p01": [-2.0, 0.0, 0.0],
            "p99": [2.0, 10.0, 1.0],
            "mask": [True, True, False],
        }
    }
}


def test_datasets_are_listed_by_name():
    assert dataset_names(NESTED) == (
        "bridge_dataset",
        "five_dim_dataset",
        "fractal20220817_data",
        "nomask_dataset",
    )
    assert dataset_names(FLAT) == ()


def test_one_dataset_is_picked_by_name():
    assert statistics_of(NESTED, "bridge_dataset") is NESTED["bridge_dataset"]


def test_without_a_name_the_only_one_is_picked():
    assert statistics_of(FLAT, None) is FLAT
    assert statistics_of(ONE, None) is ONE["only"]


@pytest.mark.parametrize(
    ("statistics", "dataset", "said"),
    [
        (NESTED, "brige", "dataset 'brige' has no statistics .*; it has: bridge_dataset, five_dim_dataset"),
        (NESTED, None, "4 datasets; name one of: bridge_dataset, five_dim_dataset"),
        (FLAT, "aloha", "it has: one without a name"),
        (FLAT, "action", "it has: one without a name"),
        ({}, "x", "has no statistics"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(statistics: dict, dataset: str | None, said: str):
    with pytest.raises(InputError, match=said):
        statistics_of(statistics, dataset)


@pytest.mark.parametrize(
    ("action", "said"),
    [({"mean": [1.0]}, "lack std; they have: mean"), ({}, "lack mean and std; they have: nothing")],
)
def test_statistics_that_cannot_un_normalize_are_refused(action: dict, said: str):
    with pytest.raises(InputError, match=said):
        action_statistics(action)


OF_THREE = ONE["only"]["action"]
OF_TWO = {"mean": [0.0, 1.0], "std": [1.0, 2.0], "min": [-1.0, -1.0], "max": [1.0, 3.0]}


@pytest.mark.parametrize(
    ("statistics", "said"),
    [
        ({"action": {"mean": 0.1, "std": 0.3}}, "mean is not a list of numbers, one a dimension"),
        ({"action": {"mean": [0.0] * 4, "std": [1.0] * 4}}, "are of 4 numbers, the head predicts 3"),
        ({"action": {**OF_THREE, "std": [1.0, 2.0]}}, "std is of 2 numbers, their mean of 3"),
        ({"action": {**OF_THREE, "mask": [True, False]}}, "mask is of 2 numbers, their mean of 3"),
        ({"action": {**OF_THREE, "mask": [1, 1, 0]}}, "mask is not a list of true and false"),
        ({"action": {"mean": [0.0] * 3}}, "lack std"),
        ({"action": {**OF_THREE, "mean": [0.0, float("nan"), 0.0]}}, "mean holds a number that is not finite"),
        ({"action": {**OF_THREE, "p01": [0.0, -1e400, 0.0]}}, "p01 holds a number that is not finite"),
        ({"action": {**OF_THREE, "std": [1.0, 1e60, 1.0]}}, "std holds a number that is not finite, or far too large"),
        ({"action": {**OF_THREE, "std": [1.0, -1.0, 1.0]}}, "std is negative"),
        ({"action": {**OF_THREE, "mean": ["0", "1", "2"]}}, "mean is not a list of numbers"),
        ({"action": {**OF_THREE, "mean": [None, 1, 2]}}, "mean is not a list of numbers"),
        ({"action": {**OF_THREE, "mean": [True, False, True]}}, "mean is not a list of numbers"),
        ({"action": {**OF_THREE, "mean": [[0.0], [1.0], [2.0]]}}, "one a dimension"),
        ({"action": {**OF_THREE, "mean": [[0.0], [1.0, 2.0], 3.0]}}, "mean is not a list of numbers"),
        ({"action": {**OF_THREE, "min": [9.0] * 3, "max": [10.0] * 3}}, "min is larger than their p01"),
        ({"action": {**OF_THREE, "p99": [-9.0] * 3}}, "p01 is larger than their p99"),
        ({"action": {"mean": [1.0], "std": [0.0], "min": [0.0], "max": [2.0]}}, "std is 0 where min and max differ"),
        ({"action": [1, 2, 3]}, "not a mean and std by name"),
        ({"proprio": OF_TWO}, "no statistics of actions"),
        ({"one": {"action": OF_THREE}, "other": {"action": {**OF_THREE, "std": [0.0] * 2}}}, r"\(dataset 'other'\)"),
        ({"one": {"action": OF_THREE}, "other": None}, r"no statistics of actions \(dataset 'other'\)"),
        ({"one": {"action": OF_THREE}, "num_transitions": np.array(7)}, "no statistics of actions"),
        ({"action": OF_THREE, "proprio": OF_THREE}, "proprio statistics are of 3 numbers, the policy takes 2"),
        ({"action": OF_THREE, "proprio": {**OF_TWO, "std": [0.0, 1.0]}}, "std is 0 where min and max differ"),
        ({"action": OF_THREE, "proprio": {"mean": [0.0] * 2, "std": [0.0] * 2}}, "std of 0, by which"),
        ({"action": OF_THREE, "proprio": {"mean": [0.0] * 2}}, "the proprio statistics lack std"),
    ],
)
def test_statistics_that_do_not_fit_the_policy_are_refused(statistics: dict, said: str):
    with pytest.raises(CheckpointError, match=said):
        check_statistics(statistics, action_dim=3, proprio_dim=2)


@pytest.mark.parametrize(
    "statistics",
    [
        {"action": OF_THREE, "num_transitions": "many"},
        {"narrower": {"action": OF_TWO}, "whole": {"action": OF_THREE, "proprio": OF_TWO, "num_trajectories": 3}},
        {"action": {"action": OF_THREE}},  # a dataset that is called so
        # What never changed, padding for instance, has no deviation; the reference writes it so.
        {"action": {"mean": [2.0], "std": [0.0], "min": [2.0], "max": [2.0]}},
        {"action": OF_TWO, "proprio": {**OF_TWO, "std": [0.0, 2.0], "min": [0.0, -1.0], "max": [0.0, 3.0]}},
        {},
    ],
)
def test_statistics_as_the_reference_writes_them_are_taken(statistics: dict):
    check_statistics(statistics, action_dim=3, proprio_dim=2)


def test_statistics_of_proprio_that_the_policy_does_not_take_do_not_matter():
    check_statistics({"action": OF_THREE, "proprio": None}, action_dim=3, proprio_dim=None)


@pytest.mark.parametrize(
    "folder", sorted(GOLDENS.glob("*/**/dataset_statistics.json")), ids=lambda path: path.parts[-3]
)
def test_all_that_the_reference_wrote_are_taken(folder: Path):
    OctoModel(load_checkpoint(folder.parent), None)


def test_another_form_is_refused():
    with pytest.raises(InputError, match="'percent' is not known; pass 'normal' or 'bounds'"):
        un_normalize(np.zeros((1, 3), np.float32), action_statistics(OF_THREE), "percent")  # pyright: ignore


def test_normal_statistics_scale_all_but_the_masked():
    actions = np.array([[[1, 1, 1], [0, -1, -1]]], np.float32)
    expected = [[[3, 6, 1], [1, -2, -1]]]
    un_normalized = un_normalize(actions, action_statistics(ONE["only"]["action"]))
    assert (un_normalized.tolist(), un_normalized.dtype) == (expected, np.float32)


def test_bounds_map_minus_one_and_one_to_the_percentiles():
    actions = np.array([[-1, -1, -1], [1, 1, 1], [0, 0, 0]], np.float32)
    expected = [[-2, 0, -1], [2, 10, 1], [0, 5, 0]]
    assert un_normalize(actions, action_statistics(ONE["only"]["action"]), "bounds").tolist() == expected


def test_bounds_without_percentiles_are_refused():
    without = Statistics(mean=np.zeros(1, np.float32), std=np.ones(1, np.float32), mask=np.array([True]))
    with pytest.raises(InputError, match="no percentiles"):
        un_normalize(np.zeros((1, 1), np.float32), without, "bounds")


def test_without_a_mask_every_dimension_is_scaled():
    assert "mask" not in FLAT["action"]
    statistics = action_statistics(FLAT["action"])
    assert statistics.mask.all()
    actions = np.zeros((50, 14), np.float32)
    np.testing.assert_array_equal(un_normalize(actions, statistics), np.tile(statistics.mean, (50, 1)))


def test_dimensions_that_the_dataset_does_not_have_are_cut_off():
    actions = np.ones((2, 4, 7), np.float32)
    assert un_normalize(actions, action_statistics(NESTED["five_dim_dataset"]["action"])).shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("variant", "case", "dataset"),
    [
        ("discrete", "w1_argmax", "bridge_dataset"),
        ("discrete", "w1_sample", "bridge_dataset"),
        ("l1_map_tokenlearner", "b2_w2_pmd", "nomask_dataset"),
        ("mse_map_obs", "w1_primary_wrist_lang", "bridge_dataset"),
        ("aloha_l1", "w1_lang", None),
    ],
)
def test_the_reference_s_actions_come_out(variant: str, case: str, dataset: str | None):
    golden = np.load(GOLDENS / "variants" / variant / "golden.npz")
    statistics = load_checkpoint(GOLDENS / "variants" / variant / "ckpt").dataset_statistics
    action = action_statistics(statistics_of(statistics, dataset)["action"])
    un_normalized = un_normalize(golden[f"{case}/actions"], action)
    np.testing.assert_allclose(un_normalized, golden[f"{case}/actions_unnorm"], rtol=0, atol=1e-6)

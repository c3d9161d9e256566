"""Dataset statistics: which, and what un-normalizing with them gives."""

from pathlib import Path

import numpy as np
import pytest

from octo_service.checkpoint import load_checkpoint
from octo_service.errors import InputError
from octo_service.statistics import (
    ActionStatistics,
    action_statistics,
    dataset_names,
    statistics_of,
    un_normalize,
)

GOLDENS = Path(__file__).parent / "goldens"
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


def test_normal_statistics_scale_all_but_the_masked():
    actions = np.float32([[[1, 1, 1], [0, -1, -1]]])
    expected = [[[3, 6, 1], [1, -2, -1]]]
    un_normalized = un_normalize(actions, action_statistics(ONE["only"]["action"]))
    assert (un_normalized.tolist(), un_normalized.dtype) == (expected, np.float32)


def test_bounds_map_minus_one_and_one_to_the_percentiles():
    actions = np.float32([[-1, -1, -1], [1, 1, 1], [0, 0, 0]])
    expected = [[-2, 0, -1], [2, 10, 1], [0, 5, 0]]
    assert un_normalize(actions, action_statistics(ONE["only"]["action"]), "bounds").tolist() == expected


def test_bounds_without_percentiles_are_refused():
    without = ActionStatistics(mean=np.float32([0]), std=np.float32([1]), mask=np.array([True]))
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

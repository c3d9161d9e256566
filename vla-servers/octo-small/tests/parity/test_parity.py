"""The model against recorded outputs of the reference, and proof that a mistake would show."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from octo_service.model import OctoModel
from octo_service.parity import compare, compare_all
from octo_service.parity.goldens import GoldenSet, golden_sets

# How many quantities each set compares: a set that silently compared less would otherwise pass.
NUM_COMPARISONS = {
    "octo-small-1.5": 120,
    "octo-base-1.5": 14,
    "tiny": 50,
    "aloha_l1": 22,
    "diff_proprio_2wrist": 26,
    "discrete": 24,
    "discrete_map": 10,
    "l1_map_tokenlearner": 12,
    "mse_map_obs": 13,
    "v1_0": 32,
    "closed_loop": 18,
    "resize": 20,
    "encoders": 8,
}


@pytest.mark.parametrize("name", NUM_COMPARISONS)
def test_every_recorded_output_is_matched(name: str, goldens: Path):
    comparisons = list(compare_all(goldens, [name]))
    assert [comparison for comparison in comparisons if not comparison.passed] == []
    assert len(comparisons) == NUM_COMPARISONS[name]


def _built_with(option: str, value: bool) -> Callable[[GoldenSet], GoldenSet]:
    def mistake(golden: GoldenSet) -> GoldenSet:
        golden.model.config["model"][option] = value
        return dataclasses.replace(golden, model=OctoModel(golden.model.checkpoint, golden.model.tokenizer))

    return mistake


def _with_a_token_dropped(golden: GoldenSet) -> GoldenSet:
    tokenizer = golden.model.tokenizer
    assert tokenizer is not None
    encode = tokenizer.encode

    def encode_one_less(texts: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: np.pad(ids[:, 1:], ((0, 0), (0, 1))) for name, ids in encode(texts).items()}

    tokenizer.encode = encode_one_less
    return golden


def _with_wrists_exchanged(golden: GoldenSet) -> GoldenSet:
    for case in golden.cases.values():
        seen = case["observation"]
        if "image_wrist_right" in seen:
            left, right = seen["image_wrist_left"], seen["image_wrist_right"]
            seen["image_wrist_left"], seen["image_wrist_right"] = right, left
    return golden


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("tiny", _built_with("use_correct_attention", False)),
        ("tiny", _built_with("repeat_task_tokens", False)),
        ("tiny", _with_a_token_dropped),
        ("diff_proprio_2wrist", _with_wrists_exchanged),
    ],
    ids=["wrong mask", "no repeated task", "dropped token", "swapped cameras"],
)
def test_a_mistake_is_out_of_tolerance(name: str, mistake: Callable[[GoldenSet], GoldenSet], goldens: Path):
    golden = golden_sets(goldens)[name]()
    golden = mistake(dataclasses.replace(golden, cases=dict([*golden.cases.items()][:1])))
    failed = {row.quantity for row in compare(golden) if not row.passed}
    assert {"readout", "actions"} <= failed


def test_not_a_number_does_not_pass(goldens: Path):
    row = next(compare_all(goldens, ["resize"]))
    assert not dataclasses.replace(row, max_error=np.nan).passed

"""Inputs of a script: tasks of texts and goals, and shapes checked before anything is computed."""

import numpy as np
import pytest

from octo_service.errors import InputError
from octo_service.model.architectures import ARCHITECTURES
from octo_service.model.inputs import checked_inputs, make_tasks
from octo_service.model.octo_config import build_octo
from octo_service.preprocessing.text import ByteTokenizer, TokenizerOptions

TINY = ARCHITECTURES["octo-tiny"]
OCTO, EXAMPLES = build_octo(TINY.config()["model"]), TINY.example_batch()
WORDS = ByteTokenizer(TokenizerOptions(max_length=16))
GOALS = {"image_primary": np.ones((2, 256, 256, 3), np.uint8), "image_wrist": np.ones((2, 128, 128, 3), np.uint8)}


def tasks(goals=None, texts=None):
    return make_tasks(EXAMPLES["task"], WORDS, goals, texts)


def observation(batch: int = 1, window: int = 2, **changes) -> dict:
    shape = (batch, window)
    return {
        "image_primary": np.zeros((*shape, 256, 256, 3), np.uint8),
        "image_wrist": np.zeros((*shape, 128, 128, 3), np.uint8),
        **changes,
    }


def checked(observations, mask=None, task=None):
    mask = np.ones((1, 2)) if mask is None else mask
    return checked_inputs(OCTO, EXAMPLES, observations, task or tasks(texts=["a"]), mask)


def test_a_task_of_words_has_black_goals_that_are_masked():
    task = tasks(texts=["a", "b"])
    assert {name: task[name].shape[0] for name in GOALS} == {"image_primary": 2, "image_wrist": 2}
    assert not task["image_primary"].any()
    assert {name: mask.tolist() for name, mask in task["pad_mask_dict"].items()} == {
        "image_primary": [False, False],
        "image_wrist": [False, False],
        "language_instruction": [True, True],
    }


def test_a_task_of_goals_has_empty_words_that_are_masked():
    task = tasks(goals=GOALS)
    assert task["image_wrist"] is GOALS["image_wrist"]
    assert task["language_instruction"]["attention_mask"].sum(1).tolist() == [1, 1]
    assert {name: mask.tolist() for name, mask in task["pad_mask_dict"].items()} == {
        "image_primary": [True, True],
        "image_wrist": [True, True],
        "language_instruction": [False, False],
    }


def test_a_task_may_be_both():
    assert all(mask.all() for mask in tasks(goals=GOALS, texts=["a", "b"])["pad_mask_dict"].values())


def test_a_model_without_a_tokenizer_gets_no_words():
    assert "language_instruction" not in make_tasks(EXAMPLES["task"], None, GOALS, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "the task is empty"),
        ({"texts": "pick up"}, "texts must be a list"),
        ({"goals": GOALS, "texts": ["one"]}, r"one batch size, not \[1, 2\]"),
        ({"goals": {"image_primary": np.zeros((1, 64, 64, 3), np.uint8)}}, r"task 'image_primary' is \(64, 64, 3\)"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(arguments, message: str):
    with pytest.raises(InputError, match=message):
        tasks(**arguments)


def test_what_no_tokenizer_reads_is_left_out():
    observations, task, mask = checked(observation(image_top=np.zeros((1, 2, 8, 8, 3))))
    assert set(observations) == {"image_primary", "image_wrist", "pad_mask_dict"}
    assert set(task) == {"image_primary", "image_wrist", "language_instruction", "pad_mask_dict"}
    assert mask.dtype == bool


def test_only_masks_of_what_is_read_are_kept():
    masks = {"image_primary": [[1, 0]], "image_top": [[1, 1]]}
    observations, task, _ = checked(observation(pad_mask_dict=masks))
    assert {name: mask.tolist() for name, mask in observations["pad_mask_dict"].items()} == {
        "image_primary": [[True, False]]
    }
    assert set(task["pad_mask_dict"]) == {"language_instruction"}


@pytest.mark.parametrize(
    ("observations", "mask", "message"),
    [
        (observation(image_primary=np.zeros((1, 2, 64, 64, 3), np.uint8)), None, "this model takes \\(256, 256, 3\\)"),
        (observation(window=1), None, r"is \(1, 1\) \(batch, window\), timestep_pad_mask is \(1, 2\)"),
        ({"image_top": np.zeros((1, 2, 8, 8, 3))}, None, "it takes image_primary, image_wrist"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(observations, mask, message: str):
    with pytest.raises(InputError, match=message):
        checked(observations, mask)


def test_a_missing_mask_is_asked_for():
    with pytest.raises(InputError, match="timestep_pad_mask is missing"):
        checked_inputs(OCTO, EXAMPLES, observation(), tasks(texts=["a"]), None)

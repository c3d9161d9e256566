"""The splits of instructions: held-out ones are new sentences of known words, and each names one task."""

import re

import pytest

from vla_server_base.tabletop.paraphrases import OBJECT_NAMES, paraphrases, task_of_instruction
from vla_server_base.tabletop.splits import FIRST_SEED
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial


def words(sentences) -> set[str]:
    return {word for sentence in sentences for word in re.findall(r"\w+", sentence)}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_splits_share_no_sentence(task):
    trained, held_out = paraphrases(task), paraphrases(task, "held_out")
    assert len(trained) > len(held_out) > 1
    assert not set(trained) & set(held_out)


def test_held_out_sentences_are_made_of_trained_words():
    trained = words(sentence for task in TASKS.values() for sentence in paraphrases(task))
    held_out = words(sentence for task in TASKS.values() for sentence in paraphrases(task, "held_out"))
    assert held_out <= trained


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_every_sentence_names_its_task(split):
    for task in TASKS.values():
        for sentence in paraphrases(task, split):
            assert task_of_instruction(sentence) == task
            assert task_of_instruction(f"  {sentence.capitalize()}. ") == task


@pytest.mark.parametrize("instruction", ["", "make coffee", "pick up the yellow cube", "pick up"])
def test_other_sentences_name_no_task(instruction):
    assert task_of_instruction(instruction) is None


def test_every_object_has_its_names_in_the_sentences():
    for name, spoken in OBJECT_NAMES.items():
        sentences = paraphrases(TASKS[f"pick_up_{name}"])
        assert {word for word in spoken if any(word in sentence for sentence in sentences)} == set(spoken)


def test_a_trial_draws_its_instruction_from_its_split():
    task = TASKS["push_left_red_cube"]
    for seed in (0, FIRST_SEED):
        for split in ("train", "held_out"):
            assert draw_trial(task, seed, split=split, jitter=False).instruction in paraphrases(task, split)


def test_many_trials_use_many_sentences():
    task = TASKS["pick_up_red_cube"]
    drawn = {draw_trial(task, seed, jitter=False).instruction for seed in range(200)}
    assert len(drawn) > 0.9 * len(paraphrases(task))

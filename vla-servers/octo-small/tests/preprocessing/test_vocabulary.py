"""A vocabulary of whole words: what it knows, and that a model brings its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.checkpoints.saving import save_checkpoint
from octo_service.errors import TokenizerError
from octo_service.model import OctoModel
from octo_service.model.random_weights import random_checkpoint
from octo_service.preprocessing.text import EOS, PAD, TokenizerOptions
from octo_service.preprocessing.vocabulary import UNKNOWN, word_vocabulary
from octo_service.preprocessing.vocabulary_files import json_tokenizer

INSTRUCTIONS = ("pick up the red cube", "Push the cube!")


def ids(text: str) -> list[int]:
    options = TokenizerOptions(max_length=6)
    return json_tokenizer(word_vocabulary(INSTRUCTIONS), options).encode([text])["input_ids"][0].tolist()


def test_words_are_known_whatever_their_case_and_what_stands_between_them():
    assert ids("pick up the red cube")[-1] == EOS
    assert ids("  Pick UP... the, red-cube") == ids("pick up the red cube")
    assert len(set(ids("pick up the red cube"))) == 6


def test_other_words_are_unknown_and_the_end_is_marked_before_the_padding():
    assert ids("cube the teapot") == [*ids("cube the")[:2], UNKNOWN, EOS, PAD, PAD]


def test_a_long_instruction_is_cut_and_still_ends():
    assert ids("push the cube push the cube push") == [*ids("push the cube push the")[:5], EOS]


def test_a_checkpoint_reads_instructions_with_the_vocabulary_it_brings(tmp_path: Path):
    checkpoint = random_checkpoint("random://octo-tabletop")
    save_checkpoint(tmp_path, replace(checkpoint, vocabulary=word_vocabulary(INSTRUCTIONS)))
    model = OctoModel.load_pretrained(tmp_path)
    tasks = model.create_tasks(texts=["push the red cube"])
    assert tasks["language_instruction"]["input_ids"][0, :5].tolist() == [*ids("push the red cube")[:4], EOS]
    assert load_checkpoint(tmp_path).vocabulary == word_vocabulary(INSTRUCTIONS)
    observation = {name: value[:, :1] for name, value in model.example_batch["observation"].items()}
    told = [np.asarray(model.sample_actions(observation, model.create_tasks(texts=[text]))) for text in INSTRUCTIONS]
    assert told[0].shape == (1, 4, 7)
    assert not np.array_equal(told[0], told[1])


def test_another_vocabulary_than_the_one_it_brings_is_refused(tmp_path: Path):
    checkpoint = random_checkpoint("random://octo-tabletop")
    save_checkpoint(tmp_path, replace(checkpoint, vocabulary=word_vocabulary(INSTRUCTIONS)))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tokenizer.json").write_text(word_vocabulary(["open the drawer"]))
    with pytest.raises(TokenizerError, match="OCTO_TOKENIZER"):
        OctoModel.load_pretrained(tmp_path, tokenizer=tmp_path / "other")


def test_words_that_are_not_known_are_named_and_warned_of_once(caplog: pytest.LogCaptureFixture):
    checkpoint = random_checkpoint("random://octo-tabletop")
    words = json_tokenizer(word_vocabulary(["pick up the red cube"]), TokenizerOptions())
    model = OctoModel(checkpoint, words)
    assert model.unknown_words("Fetch the red cube, please; fetch \ud800 it!") == ("Fetch", "please", "fetch", "it")
    assert model.unknown_words("pick up the red cube.") == ()
    for _ in range(2):
        model.create_tasks(texts=["pick up the sofa"])
    assert caplog.text.count("does not cover the word 'sofa'") == 1

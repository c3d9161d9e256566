"""Whole runs of training: learning by heart, resuming, averaging, and what is saved in the end."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from small_octo import REGRESSION, batch_of, small_checkpoint, small_octo

from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.errors import CheckpointError
from octo_service.model import OctoModel
from octo_service.preprocessing.text import TextTokenizer, TokenizerOptions
from octo_service.training.learning_rates import Cosine
from octo_service.training.optimizer import FROZEN_KEYS, Optimizer
from octo_service.training.state_file import load_state, save_state
from octo_service.training.trainer import Trainer, TrainState, trained

STEPS, EMA_DECAY = 60, 0.3


@functools.cache
def _trainer() -> Trainer:
    schedule = Cosine(peak_value=4e-3, warmup_steps=10, decay_steps=STEPS)
    optimizer = Optimizer(learning_rate=schedule, weight_decay=0.0)
    return Trainer(*small_octo(REGRESSION), optimizer, ema_decay=EMA_DECAY)


def _run(trainer: Trainer, state: TrainState, steps: int) -> tuple[TrainState, list[float]]:
    losses = []
    for _ in range(steps):
        state, metrics = trainer.step(state, batch_of(8, seed=state.step))
        losses.append(float(metrics["loss"]))
    return state, losses


def _assert_equal(found: TrainState, expected: TrainState) -> None:
    assert found.step == expected.step
    np.testing.assert_array_equal(found.rng, expected.rng)
    for leaves, others in zip(_arrays(found), _arrays(expected), strict=True):
        assert leaves.keys() == others.keys()
        for path in leaves:
            np.testing.assert_array_equal(leaves[path], others[path], err_msg=path)


def _arrays(state: TrainState) -> list[dict[str, jax.Array]]:
    return [state.params, *state.moments, state.averaged or {}]


def test_eight_samples_are_learned_by_heart():
    trainer, batch = _trainer(), batch_of(8, seed=0)
    state, losses = trainer.start(seed=0), []
    for _ in range(STEPS):
        state, metrics = trainer.step(state, batch)
        losses.append(metrics["loss"])
    assert float(losses[0]) > 2
    assert np.mean([float(loss) for loss in losses[-10:]]) < 0.01


def test_a_run_goes_on_from_its_file_to_the_last_bit(tmp_path: Path):
    trainer, path = _trainer(), tmp_path / "state.safetensors"
    state, _ = _run(trainer, trainer.start(seed=7), 3)
    save_state(path, state)
    straight, expected = _run(trainer, state, 2)
    resumed, losses = _run(trainer, load_state(path, trainer.start(seed=0)), 2)
    assert losses == expected
    _assert_equal(resumed, straight)


def test_a_state_of_another_run_is_refused(tmp_path: Path):
    path = tmp_path / "state.safetensors"
    save_state(path, _trainer().start(seed=0))
    head_only = Optimizer(learning_rate=Cosine(), frozen_keys=FROZEN_KEYS["head_only"])
    with pytest.raises(CheckpointError, match=r"of another run: \d+ arrays differ"):
        load_state(path, Trainer(*small_octo(REGRESSION), head_only, ema_decay=EMA_DECAY).start(seed=0))
    with pytest.raises(CheckpointError, match=r"of another run: \d+ arrays differ"):
        load_state(path, _trainer().start(seed=0)._replace(averaged=None))


def test_a_damaged_state_is_refused(tmp_path: Path):
    path, state = tmp_path / "state.safetensors", _trainer().start(seed=0)
    save_state(path, state)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is not the state of a training run"):
        load_state(path, state)
    with pytest.raises(CheckpointError, match="is not the state of a training run"):
        load_state(tmp_path / "absent", state)


def test_what_is_averaged_follows_the_parameters_and_is_what_was_trained():
    trainer = _trainer()
    state = trainer.start(seed=0)
    expected = {path: np.array(leaf) for path, leaf in state.params.items()}
    for decay in (1 / 10, 2 / 11, 3 / 12, 0.3, 0.3):  # rising to what was asked for
        state, _ = _run(trainer, state, 1)
        expected = {path: decay * mean + (1 - decay) * np.array(state.params[path]) for path, mean in expected.items()}
    after = trained(small_checkpoint(REGRESSION), state)
    for path, mean in expected.items():
        np.testing.assert_allclose(after.params[path], mean, rtol=1e-4, atol=1e-6, err_msg=path)
    assert any(np.any(after.params[path] != np.array(leaf)) for path, leaf in state.params.items())


def test_what_was_trained_is_saved_as_a_checkpoint_and_read_back_equal(tmp_path: Path):
    checkpoint, tokenizer = small_checkpoint(REGRESSION), TextTokenizer({"": []}.__getitem__, TokenizerOptions())
    trainer = _trainer()
    state, _ = _run(trainer, trainer.start(seed=0), 2)
    after = trained(checkpoint, state)
    OctoModel(after, tokenizer).save_pretrained(state.step, tmp_path)

    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 2
    assert loaded.params.keys() == checkpoint.params.keys()
    for path, leaf in after.params.items():
        np.testing.assert_array_equal(loaded.params[path], leaf, err_msg=path)
    changed = {path for path in checkpoint.params if np.any(loaded.params[path] != checkpoint.params[path])}
    assert changed == {path for path in checkpoint.params if "hf_model" not in path}

"""Whole runs of training: learning by heart, resuming after a kill, and what is saved in the end."""

import functools
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from small_octo import DIFFUSION, REGRESSION, batch_of, small_checkpoint, small_octo

from octo_service.checkpoint import load_checkpoint
from octo_service.errors import CheckpointError
from octo_service.model import OctoModel
from octo_service.text import TextTokenizer, TokenizerOptions
from octo_service.training import Cosine, Optimizer, Trainer, TrainState, load_state, save_state, trained
from octo_service.weight_file import map_weights

HEADS = {"regression": REGRESSION, "diffusion": DIFFUSION}
STEPS = 200


@functools.cache
def _trainer(kind: str) -> Trainer:
    schedule = Cosine(peak_value=4e-3, warmup_steps=10, decay_steps=STEPS)
    return Trainer(*small_octo(HEADS[kind]), Optimizer(learning_rate=schedule, weight_decay=0.0))


def _run(trainer: Trainer, state: TrainState, steps: int) -> tuple[TrainState, list[float]]:
    losses = []
    for _ in range(steps):
        state, metrics = trainer.step(state, batch_of(4, seed=state.step))
        losses.append(float(metrics["loss"]))
    return state, losses


def _assert_equal(found: TrainState, expected: TrainState) -> None:
    assert found.step == expected.step
    np.testing.assert_array_equal(found.rng, expected.rng)
    pairs = ((found.params, expected.params), *zip(found.moments, expected.moments, strict=True))
    for leaves, others in pairs:
        assert leaves.keys() == others.keys()
        for path in leaves:
            np.testing.assert_array_equal(leaves[path], others[path], err_msg=path)


@pytest.mark.parametrize("kind", HEADS)
def test_eight_samples_are_learned_by_heart(kind: str):
    trainer, batch = _trainer(kind), batch_of(8, seed=0)
    state, losses = trainer.start(seed=0), []
    for _ in range(STEPS):
        state, metrics = trainer.step(state, batch)
        losses.append(metrics["loss"])
    assert float(losses[0]) > 2
    assert np.mean([float(loss) for loss in losses[-20:]]) < 0.1


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_training_runs import _run, _trainer
from octo_service.training import save_state
trainer = _trainer("diffusion")
state = trainer.start(seed=7)
while True:
    state, _ = _run(trainer, state, 1)
    save_state(Path(sys.argv[1]), state)
"""


def test_a_run_goes_on_where_it_was_killed_to_the_last_bit(tmp_path: Path):
    path = tmp_path / "state.safetensors"
    command = [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command) as child:
        while child.poll() is None and not (path.exists() and int(map_weights(path)[1]["step"]) >= 3):
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL

    trainer = _trainer("diffusion")
    resumed = load_state(path, trainer.start(seed=0))
    killed_at = resumed.step
    resumed, losses = _run(trainer, resumed, 2)
    straight, all_losses = _run(trainer, trainer.start(seed=7), killed_at + 2)
    assert losses == all_losses[killed_at:]
    _assert_equal(resumed, straight)


def test_a_state_of_another_run_is_refused(tmp_path: Path):
    path = tmp_path / "state.safetensors"
    save_state(path, _trainer("diffusion").start(seed=0))
    with pytest.raises(CheckpointError, match=r"of another run: \d+ arrays differ"):
        load_state(path, _trainer("regression").start(seed=0))


def test_a_damaged_state_is_refused(tmp_path: Path):
    path, state = tmp_path / "state.safetensors", _trainer("regression").start(seed=0)
    save_state(path, state)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is no state of a training run"):
        load_state(path, state)
    with pytest.raises(CheckpointError, match="is no state of a training run"):
        load_state(tmp_path / "absent", state)


def test_what_was_trained_is_saved_as_a_checkpoint_and_read_back_equal(tmp_path: Path):
    checkpoint = small_checkpoint(REGRESSION)
    tokenizer = TextTokenizer({"": []}.__getitem__, TokenizerOptions())
    model = OctoModel(checkpoint, tokenizer)
    trainer = _trainer("regression")
    state, _ = _run(trainer, trainer.start(seed=0), 2)
    after = OctoModel(trained(checkpoint, state), tokenizer)
    after.save_pretrained(state.step, tmp_path)

    loaded = OctoModel(load_checkpoint(tmp_path), tokenizer)
    assert loaded.checkpoint.step == 2
    assert loaded.checkpoint.params.keys() == checkpoint.params.keys()
    for path, leaf in after.checkpoint.params.items():
        np.testing.assert_array_equal(loaded.checkpoint.params[path], leaf, err_msg=path)
    changed = {path for path in checkpoint.params if np.any(loaded.checkpoint.params[path] != checkpoint.params[path])}
    assert changed
    assert not any("hf_model" in path for path in changed)
    batch = batch_of(2, seed=0)
    actions = [policy.sample_actions(batch["observation"], batch["task"]) for policy in (after, loaded, model)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert jnp.abs(actions[0] - actions[2]).max() > 0

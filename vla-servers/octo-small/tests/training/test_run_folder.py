"""A run's folder and its state: what is begun, gone on with, or refused; all without training."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from octo_service.checkpoints.checkpoint import Checkpoint
from octo_service.checkpoints.stored_params import load_params
from octo_service.errors import CheckpointError, TrainingError
from octo_service.training.optimizer import Moments
from octo_service.training.run_folder import EPISODES, METRICS, RUN, STATE, RunFolder
from octo_service.training.state_file import load_state, save_state
from octo_service.training.trainer import TrainState

SETTINGS = {"seed": 1, "data": Path("demos")}


def state(step: int = 0, value: float = 1.0, averaged: bool = False) -> TrainState:
    params = {"a/kernel": jnp.full((2, 3), value), "b/bias": jnp.full(2, value)}
    moments = Moments(
        mu={path: leaf.astype(jnp.bfloat16) for path, leaf in params.items()},
        nu={path: leaf * leaf for path, leaf in params.items()},
    )
    rng = np.array([step, 2**32 - 1], np.uint32)
    return TrainState(
        step, params, moments, rng, {path: leaf / 2 for path, leaf in params.items()} if averaged else None
    )


def checkpoint() -> Checkpoint:
    return Checkpoint(
        config={"model": {}},
        params={"a/kernel": np.zeros((2, 3), np.float32), "b/bias": np.zeros(2, np.float32)},
        dataset_statistics={},
        example_batch={"observation": {}, "task": {}},
        step=0,
        params_hash="",
        statistics_hash="",
    )


def begun(path: Path) -> RunFolder:
    run = RunFolder(path, SETTINGS, resume=False)
    run.micro_batch = 4
    run.begin(state())
    return run


@pytest.mark.parametrize("averaged", [True, False])
def test_a_state_comes_back_to_the_last_bit(averaged: bool, tmp_path: Path):
    saved = state(7, 1 / 3, averaged)
    save_state(tmp_path / STATE, saved)
    loaded = load_state(tmp_path / STATE, state(averaged=averaged))
    assert loaded.step == 7
    np.testing.assert_array_equal(loaded.rng, saved.rng)
    assert loaded.rng.dtype == np.uint32
    assert loaded.moments.mu["a/kernel"].dtype == jnp.bfloat16
    for path in saved.params:
        np.testing.assert_array_equal(loaded.params[path], saved.params[path])
        np.testing.assert_array_equal(loaded.moments.nu[path], saved.moments.nu[path])
    assert (loaded.averaged is None) == (not averaged)


def test_a_state_of_other_parameters_is_refused_with_the_first_that_differ(tmp_path: Path):
    save_state(tmp_path / STATE, state())
    other = state()
    other.params["a/kernel"] = jnp.zeros((3, 3))
    with pytest.raises(CheckpointError, match=r"1 arrays differ .params/a/kernel"):
        load_state(tmp_path / STATE, other)
    with pytest.raises(CheckpointError, match=r"2 arrays differ .averaged/a/kernel, averaged/b/bias"):
        load_state(tmp_path / STATE, state(averaged=True))


def test_a_loaded_state_does_not_depend_on_its_file(tmp_path: Path):
    save_state(tmp_path / STATE, state(value=3.0))
    loaded = load_state(tmp_path / STATE, state())
    (tmp_path / STATE).write_bytes(b"")
    np.testing.assert_array_equal(loaded.params["b/bias"], [3, 3])


def test_a_new_folder_holds_the_settings_and_nothing_measured(tmp_path: Path):
    run = begun(tmp_path / "run")
    assert json.loads((tmp_path / "run" / RUN).read_text()) == {"seed": 1, "data": "demos", "micro_batch": 4}
    assert run.rows() == []
    assert (run.has_begun, run.saved_step) == (True, 0)


def test_a_run_is_gone_on_with_only_when_asked(tmp_path: Path):
    begun(tmp_path)
    with pytest.raises(TrainingError, match="holds a run already; resume it with --resume"):
        RunFolder(tmp_path, SETTINGS, resume=False)
    assert RunFolder(tmp_path, SETTINGS, resume=True).micro_batch == 4


def test_other_settings_are_named_with_both_values(tmp_path: Path):
    begun(tmp_path)
    with pytest.raises(TrainingError, match=r"other settings \(seed: 1, now 2, window: None, now 3\)"):
        RunFolder(tmp_path, {**SETTINGS, "seed": 2, "window": 3}, resume=True)


def test_a_folder_of_something_else_is_refused_and_one_of_episodes_alone_is_taken(tmp_path: Path):
    (tmp_path / EPISODES).mkdir()
    assert not RunFolder(tmp_path, SETTINGS, resume=False).has_begun
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(TrainingError, match="is not empty and holds no run"):
        RunFolder(tmp_path, SETTINGS, resume=False)


@pytest.mark.parametrize("content", ["", "{", "3"])
def test_damaged_settings_are_said_so(content: str, tmp_path: Path):
    begun(tmp_path)
    (tmp_path / RUN).write_text(content)
    with pytest.raises(TrainingError, match=r"run\.json is damaged"):
        RunFolder(tmp_path, SETTINGS, resume=True)


def test_what_was_measured_after_the_last_save_is_forgotten(tmp_path: Path):
    run = begun(tmp_path)
    for step in (1, 2, 3):
        run.log(step, loss=float(step))
    run.save(state(2), checkpoint(), keep=1)
    resumed = RunFolder(tmp_path, SETTINGS, resume=True)
    assert resumed.saved_step == 2
    assert resumed.begin(state()).step == 2
    assert resumed.rows() == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}]


def test_a_line_that_was_cut_short_is_forgotten(tmp_path: Path):
    run = begun(tmp_path)
    run.log(0, loss=1.0)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 1, "lo')
    assert run.rows() == [{"step": 0, "loss": 1.0}]


def test_only_the_last_checkpoints_are_kept_by_their_numbers(tmp_path: Path):
    run = begun(tmp_path)
    for step in (8, 9, 10, 11):
        run.save(state(step), checkpoint(), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["10", "11"]


def test_a_step_that_was_saved_before_its_state_is_saved_again(tmp_path: Path):
    run = begun(tmp_path)
    run.save(state(5), checkpoint(), keep=3)
    (tmp_path / STATE).unlink()
    run.save(state(5, value=2.0), checkpoint(), keep=3)
    assert run.saved_step == 5


def test_beginning_again_without_a_state_removes_what_described_the_first_checkpoint(tmp_path: Path):
    run = begun(tmp_path)
    (tmp_path / "config.json").write_text('{"mod')
    assert run.begin(state()).step == 0
    assert not (tmp_path / "config.json").exists()


def test_a_checkpoint_is_the_running_mean_where_there_is_one(tmp_path: Path):
    begun(tmp_path).save(state(5, averaged=True), checkpoint(), keep=1)
    params, _ = load_params(tmp_path / "5" / "default", None)
    np.testing.assert_array_equal(params["b/bias"], [0.5, 0.5])

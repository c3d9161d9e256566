"""`octo-service finetune`: a killed run goes on to the last bit, and what comes out is served."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from small_dataset import episode, small_store
from small_octo import REGRESSION, small_checkpoint

from octo_service.adapter import OctoSmallAdapter
from octo_service.checkpoints.checkpoint import load_checkpoint
from octo_service.checkpoints.saving import save_checkpoint
from octo_service.checkpoints.weight_file import map_weights
from octo_service.commands.options.finetune import Finetune
from octo_service.errors import TrainingError
from octo_service.model import t5
from octo_service.preprocessing.vocabulary import word_vocabulary
from octo_service.training.batches import augmented
from octo_service.training.fit import Fit
from octo_service.training.intervals import Intervals
from octo_service.training.preparation import prepare
from octo_service.training.recipe import Recipe
from octo_service.training.run import Run
from octo_service.training.run_folder import RunFolder
from vla_server_base.contract import Observation, PolicyInput, Task
from vla_server_base.datasets import ArrayStoreWriter
from vla_server_base.errors import DatasetError
from vla_server_base.sessions.action_chunking import ObservationWindow

WORDS = word_vocabulary(["open the drawer", "move the pot"])
STEPS = 6
# Compiling is most of the work here; none of it is to be repeated, or to be done well.
QUICKLY = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with `data`, in which runs leave their results."""
    folder = tmp_path_factory.mktemp("runs")
    small_store(folder / "data")
    return folder


@pytest.fixture(scope="module")
def straight(folder: Path) -> Path:
    """Train a policy from scratch without an interruption."""
    result = subprocess.run(
        _command(folder, "straight"), env=QUICKLY, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "3 episodes of" in result.stdout
    assert re.search(rf"^training: {STEPS}/{STEPS} steps .*, loss=.*, held_out_loss=", result.stderr, re.MULTILINE)
    assert "\r" not in result.stderr
    return folder / "straight"


def _command(folder: Path, out: str, *arguments: str) -> list[str]:
    """Return a command line that a user would type."""
    flags = {
        "from": "random://octo-tiny",
        "data": folder / "data",
        "out": folder / out,
        "camera": "primary=primary@32",
        "head": "MSEActionHead",
        "cache-dir": folder / "cache",
        "device": "cpu",
        "steps": STEPS,
        "batch-size": 4,
        "window": 1,
        "keep-image-prob": 0.0,
        "history-dropout": 0.5,
        "word-dropout": 0.1,
        "augment": False,
        "save-every": 2,
        "validate-every": 3,
        "log-every": 1,
    }
    typed = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-m", "octo_service.cli", "finetune", *typed, *arguments]


def test_a_killed_run_goes_on_to_the_last_bit(folder: Path, straight: Path):
    killed = folder / "killed"
    state = killed / "state.safetensors"
    with subprocess.Popen(_command(folder, "killed"), env=QUICKLY, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None and not state.exists():
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert 0 < int(map_weights(state)[1]["step"]) < STEPS

    command = _command(folder, "killed", "--resume")
    resumed = subprocess.run(command, env=QUICKLY, capture_output=True, text=True, timeout=600, check=False)
    assert resumed.returncode == 0, resumed.stderr

    one, other = load_checkpoint(straight), load_checkpoint(killed)
    assert one.step == other.step == STEPS
    assert one.params_hash == other.params_hash
    losses = [{row["step"]: row["loss"] for row in _rows(run) if "loss" in row} for run in (straight, killed)]
    assert losses[0] == losses[1]
    assert sorted(losses[0]) == list(range(1, STEPS + 1))


def test_an_interrupted_run_says_from_which_step_it_goes_on_and_how(folder: Path):
    # As in a terminal: what a shell runs in the background ignores the signal.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from octo_service.cli import main; main()"
    typed = _command(folder, "interrupted", "--steps", "100000", "--save-every", "1")[3:]
    said = folder / "said"
    with (
        said.open("w") as file,
        subprocess.Popen([sys.executable, "-c", code, *typed], env=QUICKLY, stderr=file) as child,
    ):
        while child.poll() is None and not (folder / "interrupted" / "state.safetensors").exists():
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        try:
            child.wait(timeout=300)
        finally:
            child.kill()
    lines = said.read_text().splitlines()
    assert child.returncode == 130
    assert any(line.startswith("compiling: 0/100000 steps") for line in lines), lines
    found = re.fullmatch(
        r"octo-service: interrupted; .* holds the checkpoint of step (\d+); "
        r"to go on from step \1: octo-service (.*) --resume",
        lines[-1],
    )
    assert found is not None, lines
    assert int(found[1]) >= 1
    assert found[2] == shlex.join(typed)


def _rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_measures_what_it_never_trained_on_and_keeps_its_last_checkpoints(straight: Path):
    assert [row["step"] for row in _rows(straight) if "validation_loss" in row] == [3, 6]
    assert sorted(int(path.name) for path in straight.iterdir() if path.name.isdigit()) == [2, 4, 6]
    assert "<svg" in (straight / "losses.svg").read_text()


def test_a_policy_from_scratch_is_served_with_its_own_words(tmp_path: Path, straight: Path):
    first, last = load_checkpoint(straight, step=2), load_checkpoint(straight)
    moved = {path for path, leaf in last.params.items() if np.any(leaf != first.params[path])}
    assert t5.EMBEDDING in moved, "the text encoder is trained with the rest"
    assert any("observation_tokenizers_primary" in path for path in moved)

    adapter = OctoSmallAdapter()
    adapter.load_model(str(straight), "cpu", tmp_path)
    assert [(camera.name, camera.height) for camera in adapter.spec.cameras] == [("primary", 32)]
    assert (adapter.spec.window, adapter.spec.takes_goal_images) == (1, False)
    assert adapter.model.tokenizer is not None
    assert adapter.model.tokenizer.encode(["Open it!"])["input_ids"][0, :3].tolist()[1:] == [2, 1]
    seen = Observation(images={"primary": np.zeros((48, 48, 3), np.uint8)})
    policy_input = PolicyInput(
        observation=adapter.preprocess_observation(ObservationWindow(1).append(seen)),
        task=adapter.preprocess_instruction(Task(instruction="open the drawer")),
        seed=0,
    )
    (chunk,) = adapter.predict([policy_input])
    action = adapter.postprocess_action(chunk[0], None, "ee_delta")
    statistics = last.dataset_statistics["action"]
    expected = np.where(statistics["mask"], chunk[0] * statistics["std"] + statistics["mean"], chunk[0])
    np.testing.assert_allclose(action.actions, expected, rtol=1e-5)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Save a small policy of 3 actions."""
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, replace(small_checkpoint(REGRESSION), step=5, vocabulary=WORDS))
    return folder


def test_another_robot_keeps_what_fits_and_a_frozen_text_encoder_is_embedded_once(tmp_path: Path, checkpoint: Path):
    for name in ("one", "two"):
        with ArrayStoreWriter(tmp_path / name, fps=5) as writer:
            for number in range(3):
                made = episode(number, 6, action_dim=4)
                left = made.images["primary"][:, :24]
                writer.append(replace(made, images={**made.images, "left": left}))
    recipe = Recipe(
        source=str(checkpoint),
        data=(tmp_path / "one", tmp_path / "two"),
        camera=("primary=primary", "left=left@16"),
        proprio=True,
        horizon=5,
        batch_size=3,
        validation=0.0,
        tokenizer=None,
    )
    prepared = prepare(recipe, tmp_path, tmp_path / "episodes")

    assert prepared.held_out is None
    assert "6 episodes of 36 timesteps" in prepared.report
    arrays = augmented(prepared.batches[0])
    assert {name: value.shape for name, value in arrays["observation"].items()} == {
        "image_primary": (3, 1, 32, 32, 3),
        "image_left": (3, 1, 16, 16, 3),
        "proprio": (3, 1, 3),
        "timestep_pad_mask": (3, 1),
    }
    assert arrays["task"]["language_instruction"].shape == (3, 16, 16)
    assert arrays["action"].shape == (3, 1, 5, 4)
    started = prepared.trainer.start(0)
    assert not any(path.startswith(t5.ROOT) for path in started.params)
    stored, new = load_checkpoint(checkpoint).params, prepared.checkpoint.params
    assert new["octo_transformer/obs_left_projection/kernel"].shape == (64, 64)
    assert new["heads_action/mean_proj/kernel"].shape == (64, 20)
    same = "octo_transformer/obs_primary_projection/kernel"
    np.testing.assert_array_equal(new[same], stored[same])

    with pytest.raises(TrainingError, match=r"--mode head_only would not train \d+ new parameters"):
        prepare(replace(recipe, mode="head_only"), tmp_path, tmp_path / "episodes")


def test_a_run_whose_loss_is_not_finite_stops(tmp_path: Path, checkpoint: Path):
    small_store(tmp_path / "data", action_dim=3)
    recipe = Recipe(
        source=str(checkpoint),
        data=(tmp_path / "data",),
        learning_rate=1e38,
        warmup_steps=0,
        steps=8,
        batch_size=2,
        validation=0.0,
        tokenizer=None,
    )
    made = prepare(recipe, tmp_path, tmp_path / "episodes")
    train = Run(
        trainer=made.trainer,
        batches=made.batches,
        checkpoint=made.checkpoint,
        folder=RunFolder(tmp_path / "run", {}, resume=False),
        intervals=Intervals(log_every=1),
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
    )
    with pytest.raises(
        TrainingError, match=r"step \d is not finite \(.*\); no checkpoint was saved; .* --learning-rate"
    ):
        train()
    assert all(np.isfinite(list(row.values())).all() for row in _rows(tmp_path / "run"))


def test_a_number_that_is_not_finite_is_refused_before_the_first_step(tmp_path: Path, checkpoint: Path):
    small_store(tmp_path / "data", action_dim=3)
    stored = np.memmap(tmp_path / "data/actions.raw", np.float32, "r+", shape=(26, 3))
    stored[7, 1] = np.nan
    stored.flush()
    recipe = Recipe(source=str(checkpoint), data=(tmp_path / "data",), tokenizer=None)
    with pytest.raises(DatasetError, match=r"episode 1 of .*data: actions: number 1 at timestep 2 is nan"):
        prepare(recipe, tmp_path, tmp_path / "episodes")


def test_where_things_are_may_be_learnt_before_what_to_do(tmp_path: Path):
    data = tmp_path / "data"
    with ArrayStoreWriter(data, fps=5) as writer:
        for number in range(3):
            state = np.random.default_rng(number).normal(3, 2, size=(6, 14)).astype(np.float32)
            writer.append(episode(number, 6, environment_state=state))
    recipe = Recipe(
        source="random://octo-tabletop",
        data=(data,),
        learn="environment_state",
        camera=("primary=primary",),
        horizon=1,
        window=1,
        validation=0,
        batch_size=4,
    )
    prepared = prepare(recipe, tmp_path, tmp_path / "episodes")
    labels = prepared.batches[0].arrays["action"]
    assert labels.shape == (4, 1, 1, 14)
    assert np.abs(labels.mean()) < 1, "normalized by its own statistics"
    assert prepared.checkpoint.dataset_statistics["action"]["mean"].shape == (14,)
    positions = prepared.checkpoint.params["octo_transformer/obs_primary_pos_embedding"]
    assert positions.std() == pytest.approx(0.5, rel=0.1)

    small_store(tmp_path / "real")
    with pytest.raises(TrainingError, match="--learn environment_state: an episode has none"):
        prepare(replace(recipe, data=(tmp_path / "real",)), tmp_path, tmp_path / "other")


def test_a_run_is_only_gone_on_with_by_its_own_recipe(tmp_path: Path, straight: Path):
    settings = json.loads((straight / "run.json").read_text())
    again = RunFolder(straight, settings, resume=True)
    assert again.rows() == _rows(straight)
    assert again.micro_batch == 4, "as many samples at a time as when it began"
    with pytest.raises(TrainingError, match="holds a run already; resume it with --resume"):
        RunFolder(straight, settings, resume=False)
    with pytest.raises(TrainingError, match=r"other settings \(seed: 42, now 2\)"):
        RunFolder(straight, {**settings, "seed": 2}, resume=True)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(TrainingError, match=r"run.json is damaged"):
        RunFolder(tmp_path, settings, resume=True)
    (tmp_path / "run.json").unlink()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(TrainingError, match="is not empty and holds no run"):
        RunFolder(tmp_path, settings, resume=True)


def test_every_option_is_documented():
    page = (Path(__file__).parents[4] / "docs" / "training.md").read_text()
    names = {field.name for kind in (Recipe, Intervals, Fit, Finetune) for field in fields(kind)}
    names = names - {"recipe", "intervals", "fit", "server", "source"} | {"from"}
    assert {f"--{name.replace('_', '-')}" for name in names} <= set(re.findall(r"`(--[a-z-]+)", page))

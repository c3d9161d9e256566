"""The folder of a run: a checkpoint folder that holds, besides, what it takes to go on after a kill.

config.json ... <step>/         checkpoints as the reference writes them: serve this folder
tokenizer.json                  the policy's own vocabulary, if it has one
run.json                        the settings, which a resumed run must have too; how many samples it computes at a time
state.safetensors               parameters, moments and noise of the last save
metrics.jsonl  losses.svg       what was measured, a line a time, and its image
episodes/                       images at the policy's sizes, where the dataset has others
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octo_service.checkpoints.checkpoint import CONFIG, EXAMPLE_BATCH, STATISTICS, VOCABULARY, Checkpoint
from octo_service.checkpoints.saving import save_checkpoint
from octo_service.checkpoints.weight_file import map_weights
from octo_service.errors import TrainingError
from octo_service.training.plots import plot_run
from octo_service.training.state_file import load_state, save_state
from octo_service.training.trainer import TrainState, trained
from vla_server_base.datasets.json_lines import read_rows

RUN, STATE, METRICS, PLOT, EPISODES = "run.json", "state.safetensors", "metrics.jsonl", "losses.svg", "episodes"
# Settled when a run begins, and no setting: another number changes what is learned by rounding alone.
MICRO_BATCH = "micro_batch"


class RunFolder:
    """One run's folder, begun or gone on with.

    `micro_batch` is how many samples the run computes at a time: None until it began.

    Raises:
        TrainingError: it holds a run already and `resume` is False, the run there has other settings, or it holds
            something else.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], resume: bool):
        self.path, self.micro_batch = path, None
        self._settings = settings = json.loads(json.dumps(settings, default=str))
        if (path / RUN).exists():
            stored = self._read_settings(path / RUN)
            self.micro_batch: int | None = stored.get(MICRO_BATCH)
            if not resume:
                raise TrainingError(
                    f"{path} holds a run already", hint="resume it with --resume, or give another --out"
                )
            if different := [
                name for name in (stored.keys() | settings) - {MICRO_BATCH} if stored.get(name) != settings.get(name)
            ]:
                listed = ", ".join(
                    f"{name}: {stored.get(name)}, now {settings.get(name)}" for name in sorted(different)
                )
                raise TrainingError(
                    f"the run in {path} has other settings ({listed})", hint="resume it with the same settings"
                )
        elif path.exists() and any(entry.name != EPISODES for entry in path.iterdir()):
            raise TrainingError(f"{path} is not empty and holds no run", hint="give another --out")

    @staticmethod
    def _read_settings(file: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(file.read_text()))
        except (ValueError, TypeError) as error:
            raise TrainingError(f"{file} is damaged ({error})", hint="give another --out, or remove it") from error

    @property
    def has_begun(self) -> bool:
        """Whether there is a run to go on with."""
        return (self.path / RUN).exists()

    @property
    def saved_step(self) -> int:
        """The step of the last save, 0 if there is none."""
        state = self.path / STATE
        return int(map_weights(state)[1]["step"]) if state.exists() else 0

    def begin(self, started: TrainState) -> TrainState:
        """Return the state of the last save, or `started` if there is none; later measurements are dropped."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(RUN, json.dumps({**self._settings, MICRO_BATCH: self.micro_batch}, indent=2) + "\n")
        if (self.path / STATE).exists():
            state = load_state(self.path / STATE, started)
        else:
            state = started
            # Of a first checkpoint that the run was killed while writing, what describes it may be cut short.
            for name in (CONFIG, STATISTICS, EXAMPLE_BATCH, VOCABULARY):
                (self.path / name).unlink(missing_ok=True)
        rows = [row for row in self.rows() if row["step"] <= state.step]
        self._write(METRICS, "".join(json.dumps(row) + "\n" for row in rows))
        return state

    def rows(self) -> list[dict[str, Any]]:
        """Return what was measured so far."""
        path = self.path / METRICS
        return read_rows(path)[0] if path.exists() else []

    def log(self, step: int, **measured: float) -> None:
        """Write down what was measured after `step` steps."""
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps({"step": step, **measured}) + "\n")

    def plot(self) -> None:
        """Draw what was measured so far."""
        plot_run(self.rows(), self.path / PLOT)

    def save(self, state: TrainState, checkpoint: Checkpoint, keep: int) -> None:
        """Write the checkpoint that training from `checkpoint` has come to, and the state; keep the last `keep`."""
        # Saved already, when the run was killed before its state was: the same parameters come again.
        shutil.rmtree(self.path / str(state.step), ignore_errors=True)
        save_checkpoint(self.path, trained(checkpoint, state))
        save_state(self.path / STATE, state)
        steps = sorted((entry for entry in self.path.iterdir() if entry.name.isdigit()), key=lambda e: int(e.name))
        for old in steps[:-keep]:
            shutil.rmtree(old)

    def _write(self, name: str, content: str) -> None:
        new = self.path / f"{name}.new"
        new.write_text(content)
        os.replace(new, self.path / name)

"""A run of training from its first step, or the one that it was killed after, to its last."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float
from tqdm import tqdm

from octo_service.checkpoints.checkpoint import Checkpoint
from octo_service.errors import TrainingError
from octo_service.training.batches import Batches, augmented, made_ahead
from octo_service.training.intervals import Intervals
from octo_service.training.losses import Metrics
from octo_service.training.run_folder import RunFolder
from octo_service.training.trainer import Trainer, TrainState
from octo_service.training.validation import Validation
from vla_server_base.commands.interrupts import noted_interrupts
from vla_server_base.commands.progress import progress

# Steps that may wait for the device; each holds a batch in memory.
MAX_QUEUED = 2
# What a run does, in the words that are shown.
COMPILING, TRAINING, VALIDATING = "compiling", "training", "measuring the held-out loss"


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that a run is made of; `checkpoint` is the one to train from, with everything but the trained parameters.

    `evaluate` plays episodes with the checkpoint last saved and returns the share that succeeded.
    """

    trainer: Trainer
    batches: Batches
    checkpoint: Checkpoint
    folder: RunFolder
    intervals: Intervals
    steps: int
    batch_size: int
    seed: int
    validation: Validation | None = None
    evaluate: Callable[[int], float] | None = None

    def __call__(self) -> TrainState:
        """Train, and return the last state. A killed run that is called again comes to the same parameters."""
        state = self.folder.begin(self.trainer.start(self.seed))
        self._evaluate_if_due(state.step)  # if it was killed while it did
        losses: list[Float[Array, ""]] = []
        started = time.perf_counter()
        with noted_interrupts() as check_interrupt, progress(self.steps, COMPILING, "step", initial=state.step) as bar:
            for batch in made_ahead(self.batches.__getitem__, state.step, self.steps):
                state, metrics = self.trainer.step(state, augmented(batch))
                if bar.desc == COMPILING:
                    started = time.perf_counter()
                    bar.unpause()  # how long that took says nothing about the steps to come
                    bar.set_description_str(TRAINING)
                losses.append(metrics["loss"])
                if len(losses) > MAX_QUEUED:
                    self._check_finite(state.step - MAX_QUEUED, loss=losses[-1 - MAX_QUEUED])
                bar.update()
                check_interrupt()
                if self._is_due(state.step, self.intervals.log_every):
                    loss = sum(map(float, losses)) / len(losses)
                    self._check_finite(state.step, loss=loss, grad_norm=metrics["grad_norm"])
                    rate = len(losses) * self.batch_size / (time.perf_counter() - started)
                    others = {name: float(metrics[name]) for name in ("learning_rate", "grad_norm")}
                    self.folder.log(state.step, loss=loss, samples_per_s=rate, **others)
                    self._show(bar)
                    losses.clear()
                self._look_after(state, metrics, bar)
                if not losses:
                    started = time.perf_counter()
        self.folder.plot()
        return state

    def _show(self, bar: "tqdm[Any]") -> None:
        """Show the losses that were measured last."""
        names = {"loss": "loss", "validation_loss": "held_out_loss"}
        measured = {names[name]: value for row in self.folder.rows() for name, value in row.items() if name in names}
        bar.set_postfix({name: f"{value:.4f}" for name, value in measured.items()}, refresh=False)

    def _look_after(self, state: TrainState, metrics: Metrics, bar: "tqdm[Any]") -> None:
        """Do what is due after a step."""
        intervals = self.intervals
        if self.validation is not None and self._is_due(state.step, intervals.validate_every):
            bar.set_description_str(VALIDATING)
            measured = self.validation(state)
            self._check_finite(state.step, **measured)
            self.folder.log(state.step, **{f"validation_{name}": value for name, value in measured.items()})
            self._show(bar)
            bar.set_description_str(TRAINING)
        if self._is_due(state.step, intervals.save_every) or self._is_due(state.step, intervals.evaluate_every):
            self._check_finite(state.step, **metrics)
            self.folder.save(state, self.checkpoint, intervals.keep)
            self.folder.plot()
        self._evaluate_if_due(state.step)

    def _check_finite(self, step: int, **measured: Array | float) -> None:
        """Stop if the loss is not finite: later steps would not be finite either."""
        if wrong := [f"{name} {value}" for name, value in measured.items() if not math.isfinite(value)]:
            saved = self.folder.saved_step
            kept = f"{self.folder.path} holds the checkpoint of step {saved}" if saved else "no checkpoint was saved"
            raise TrainingError(
                f"step {step} is not finite ({', '.join(wrong)}); {kept}",
                hint="train with a smaller --learning-rate or --clip-gradient, in another --out",
            )

    def _evaluate_if_due(self, step: int) -> None:
        if self.evaluate is None or not self._is_due(step, self.intervals.evaluate_every):
            return
        if not any(row["step"] == step and "success" in row for row in self.folder.rows()):
            self.folder.log(step, success=self.evaluate(step))

    def _is_due(self, step: int, every: int | None) -> bool:
        return every is not None and step > 0 and (step % every == 0 or step == self.steps)

"""A run of training from its first step, or the one that it was killed after, to its last."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Array, Float
from tqdm import tqdm

from octo_service.checkpoint import Checkpoint
from octo_service.training.batches import Batches, augmented, made_ahead
from octo_service.training.run_folder import RunFolder
from octo_service.training.timetable import Timetable
from octo_service.training.trainer import Trainer, TrainState
from octo_service.training.validation import Validation

# Steps that may wait for the device; each holds a batch in memory.
MAX_QUEUED = 2


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that a run is made of; `checkpoint` is the one to train from, with everything but the trained parameters.

    `evaluate` plays episodes with the checkpoint last saved and returns the share that succeeded.
    """

    trainer: Trainer
    batches: Batches
    checkpoint: Checkpoint
    folder: RunFolder
    timetable: Timetable
    steps: int
    batch_size: int
    seed: int
    validation: Validation | None = None
    evaluate: Callable[[int], float] | None = None

    def __call__(self) -> TrainState:
        """Train, and return the last state. A killed run that is called again comes to the same parameters."""
        state = self.folder.begin(self.trainer.start(self.seed))
        self._evaluate_if_due(state.step)  # where it was killed while it did
        losses: list[Float[Array, ""]] = []
        started = time.perf_counter()
        samples = {"unit": "sample", "unit_scale": self.batch_size}
        with tqdm(total=self.steps, initial=state.step, dynamic_ncols=True, **samples) as bar:
            for batch in made_ahead(self.batches.__getitem__, state.step, self.steps):
                state, metrics = self.trainer.step(state, augmented(batch))
                losses.append(metrics["loss"])
                if len(losses) > MAX_QUEUED:
                    losses[-1 - MAX_QUEUED].block_until_ready()
                bar.update()
                if self._is_due(state.step, self.timetable.log_every):
                    loss = sum(map(float, losses)) / len(losses)
                    rate = len(losses) * self.batch_size / (time.perf_counter() - started)
                    others = {name: float(metrics[name]) for name in ("learning_rate", "grad_norm")}
                    self.folder.log(state.step, loss=loss, samples_per_s=rate, **others)
                    bar.set_postfix(loss=f"{loss:.4f}")
                    losses.clear()
                self._look_after(state)
                if not losses:
                    started = time.perf_counter()
        self.folder.plot()
        return state

    def _look_after(self, state: TrainState) -> None:
        """Do what is due after a step."""
        table = self.timetable
        if self.validation is not None and self._is_due(state.step, table.validate_every):
            measured = self.validation(state)
            self.folder.log(state.step, **{f"validation_{name}": value for name, value in measured.items()})
        if self._is_due(state.step, table.save_every) or self._is_due(state.step, table.evaluate_every):
            self.folder.save(state, self.checkpoint, table.keep)
            self.folder.plot()
        self._evaluate_if_due(state.step)

    def _evaluate_if_due(self, step: int) -> None:
        if self.evaluate is None or not self._is_due(step, self.timetable.evaluate_every):
            return
        if not any(row["step"] == step and "success" in row for row in self.folder.rows()):
            self.folder.log(step, success=self.evaluate(step))

    def _is_due(self, step: int, every: int | None) -> bool:
        return every is not None and step > 0 and (step % every == 0 or step == self.steps)

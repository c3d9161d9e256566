"""`octo-service finetune`: a policy for your own robot, from recorded episodes."""

import dataclasses
import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from octo_service import device
from octo_service.config import OctoConfig
from octo_service.errors import TrainingError
from octo_service.training.recipe import Recipe
from octo_service.training.timetable import Timetable
from vla_server_base.config import ServerConfig, config_from_environment
from vla_server_base.extras import how_to_install

# `--resume`, or `--resume True` as the other switches have it.
Switch = Annotated[
    bool,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="",
        instance_from_str=lambda given: given in ([], ["True"]),
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    ),
]


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Train a policy on recorded episodes: a checkpoint further, or an architecture from scratch."""

    recipe: Recipe

    out: Path
    """The run's folder; it is a checkpoint to serve, too."""

    resume: Switch = False
    """Go on with the run in `out` where it was killed."""

    timetable: Timetable = field(default_factory=Timetable)

    evaluate_tasks: tuple[str, ...] = ()
    """Tasks of the closed loop, by how their names begin; all by default."""

    evaluate_trials: int = 10
    """Trials of each task."""

    server: ServerConfig = field(default_factory=partial(config_from_environment, ServerConfig, "VLA"))

    def run(self) -> None:
        """Train, and say where the checkpoints are."""
        try:
            from octo_service.training.preparation import prepare
            from octo_service.training.run import Run
            from octo_service.training.run_folder import EPISODES, RunFolder
            from octo_service.training.validation import Validation
        except ImportError as error:
            raise TrainingError(f"training needs {error.name}: {how_to_install('train')}") from error
        device.prepare(self.server.device, self.server.cache_dir)
        folder = RunFolder(self.out, dataclasses.asdict(self.recipe), self.resume)
        prepared = prepare(self.recipe, self.server.cache_dir, self.out / EPISODES)
        print(prepared.report)
        validation = None
        if prepared.held_out is not None:
            validation = Validation(prepared.trainer, prepared.held_out, self.timetable.validation_batches)
        run = Run(
            trainer=prepared.trainer,
            batches=prepared.batches,
            checkpoint=prepared.checkpoint,
            folder=folder,
            timetable=self.timetable,
            steps=self.recipe.steps,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            validation=validation,
            evaluate=self._success if self.timetable.evaluate_every else None,
        )
        state = run()
        print(f"{self.out}: step {state.step}; serve it with OCTO_MODEL={self.out}")

    def _success(self, step: int) -> float:
        """Play trials with a checkpoint of this run and return the share of successes."""
        from octo_service.evaluate import Evaluate

        out = self.out / "evaluation" / f"{step}.jsonl"
        Evaluate(
            policy=str(self.out / str(step)),
            tasks=self.evaluate_tasks,
            trials=self.evaluate_trials,
            listening=0,
            out=out,
            server=self.server,
            octo=OctoConfig(model=str(self.out), tokenizer=self.recipe.tokenizer),
        ).run()
        _, *rows = map(json.loads, out.read_text().splitlines())
        return sum(row["success"] for row in rows) / len(rows)

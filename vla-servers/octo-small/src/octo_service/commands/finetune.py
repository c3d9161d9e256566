"""`octo-service finetune`: a policy for your own robot, from recorded episodes."""

import asyncio
import dataclasses
import shlex
import sys
from pathlib import Path

from octo_service import device
from octo_service.commands.options.finetune import Finetune
from octo_service.config import OctoConfig
from octo_service.errors import TrainingError
from vla_server_base.cache_folder import writable_cache
from vla_server_base.commands import evaluate
from vla_server_base.commands.options.evaluate import Evaluate
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.commands.progress import phase
from vla_server_base.errors import Interrupted
from vla_server_base.extras import how_to_install
from vla_server_base.tabletop.results import Results

try:
    from octo_service.training.preparation import prepare
    from octo_service.training.run import Run
    from octo_service.training.run_folder import EPISODES, RunFolder
    from octo_service.training.validation import Validation
except ImportError as error:
    raise TrainingError(f"training needs {error.name}", hint=how_to_install("train")) from error


def run(options: Finetune, program: PolicyProgram[OctoConfig]) -> None:
    """Train, and say where the checkpoints are."""
    folder = RunFolder(options.out, dataclasses.asdict(options.recipe), options.resume)
    try:
        with writable_cache(options.server.cache_dir) as cache_dir:
            _train(options, program, folder, cache_dir)
    except KeyboardInterrupt as interrupt:
        raise _interrupted(options, program, folder) from interrupt


def _train(options: Finetune, program: PolicyProgram[OctoConfig], folder: RunFolder, cache_dir: Path) -> None:
    recipe, intervals = options.recipe, options.intervals
    device.prepare(options.server.device, cache_dir)
    phase(f"loading {recipe.source} and {', '.join(map(str, recipe.data))}")
    fit = options.fit
    if fit.micro_batch is None:
        fit = dataclasses.replace(fit, micro_batch=folder.micro_batch)
    prepared = prepare(recipe, cache_dir, options.out / EPISODES, fit)
    folder.micro_batch = prepared.trainer.micro_batch
    print(prepared.report)
    validation = None
    if prepared.held_out is not None:
        validation = Validation(prepared.trainer, prepared.held_out, intervals.validation_batches)
    train = Run(
        trainer=prepared.trainer,
        batches=prepared.batches,
        checkpoint=prepared.checkpoint,
        folder=folder,
        intervals=intervals,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        validation=validation,
        evaluate=(lambda step: _success(options, program, step)) if intervals.evaluate_every else None,
    )
    state = train()
    print(f"{options.out}: step {state.step}; serve it with OCTO_MODEL={options.out}")


def _interrupted(options: Finetune, program: PolicyProgram[OctoConfig], folder: RunFolder) -> Interrupted:
    arguments = sys.argv[1:]
    if folder.has_begun and not options.resume:
        arguments = [*arguments, "--resume"]
    return Interrupted(
        f"{options.out} holds the checkpoint of step {folder.saved_step}"
        if folder.saved_step
        else "no checkpoint was saved",
        hint=f"to go on from step {folder.saved_step}: {program.name} {shlex.join(arguments)}",
    )


def _success(options: Finetune, program: PolicyProgram[OctoConfig], step: int) -> float:
    """Play trials with a checkpoint of this run and return the share of successes."""
    evaluation = Evaluate(
        policy=str(options.out / str(step)),
        tasks=options.evaluate_tasks,
        trials=options.evaluate_trials,
        grounding=0,
        out=options.out / "evaluation" / f"{step}.jsonl",
        server=options.server,
        config=OctoConfig(model=str(options.out), tokenizer=options.recipe.tokenizer),
    )
    runs: list[Results] = []
    asyncio.run(evaluate.evaluate_policy(evaluation, program, runs))
    print(evaluate.report(runs[0]))
    successes = [result.success for result in runs[0].of("suite")]
    return sum(successes) / len(successes)

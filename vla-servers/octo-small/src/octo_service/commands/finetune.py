"""`octo-service finetune`: a policy for your own robot, from recorded episodes."""

import asyncio
import dataclasses
import shlex
import sys

from octo_service import device
from octo_service.commands import evaluate
from octo_service.config import OctoConfig
from octo_service.errors import Interrupted, TrainingError
from octo_service.options import Evaluate, Finetune
from octo_service.progress import phase
from vla_server_base.extras import how_to_install
from vla_server_base.tabletop.results import Results

try:
    from octo_service.training.preparation import prepare
    from octo_service.training.run import Run
    from octo_service.training.run_folder import EPISODES, RunFolder
    from octo_service.training.validation import Validation
except ImportError as error:
    raise TrainingError(f"training needs {error.name}: {how_to_install('train')}") from error


def run(options: Finetune) -> None:
    """Train, and say where the checkpoints are."""
    folder = RunFolder(options.out, dataclasses.asdict(options.recipe), options.resume)
    try:
        _train(options, folder)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(_how_to_go_on(options, folder)) from interrupt


def _train(options: Finetune, folder: RunFolder) -> None:
    recipe, timetable = options.recipe, options.timetable
    device.prepare(options.server.device, options.server.cache_dir)
    phase(f"loading {recipe.source} and {', '.join(map(str, recipe.data))}")
    fit = options.fit
    if fit.micro_batch is None:
        fit = dataclasses.replace(fit, micro_batch=folder.micro_batch)
    prepared = prepare(recipe, options.server.cache_dir, options.out / EPISODES, fit)
    folder.micro_batch = prepared.trainer.micro_batch
    print(prepared.report)
    validation = None
    if prepared.held_out is not None:
        validation = Validation(prepared.trainer, prepared.held_out, timetable.validation_batches)
    train = Run(
        trainer=prepared.trainer,
        batches=prepared.batches,
        checkpoint=prepared.checkpoint,
        folder=folder,
        timetable=timetable,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        validation=validation,
        evaluate=(lambda step: _success(options, step)) if timetable.evaluate_every else None,
    )
    state = train()
    print(f"{options.out}: step {state.step}; serve it with OCTO_MODEL={options.out}")


def _how_to_go_on(options: Finetune, folder: RunFolder) -> str:
    arguments = sys.argv[1:]
    if folder.has_begun and not options.resume:
        arguments = [*arguments, "--resume"]
    return f"to go on from step {folder.saved_step}: octo-service {shlex.join(arguments)}"


def _success(options: Finetune, step: int) -> float:
    """Play trials with a checkpoint of this run and return the share of successes."""
    evaluation = Evaluate(
        policy=str(options.out / str(step)),
        tasks=options.evaluate_tasks,
        trials=options.evaluate_trials,
        grounding=0,
        out=options.out / "evaluation" / f"{step}.jsonl",
        server=options.server,
        octo=OctoConfig(model=str(options.out), tokenizer=options.recipe.tokenizer),
    )
    found: list[Results] = []
    asyncio.run(evaluate.evaluate_policy(evaluation, found))
    print(evaluate.report(found[0]))
    successes = [result.success for result in found[0].of("suite")]
    return sum(successes) / len(successes)

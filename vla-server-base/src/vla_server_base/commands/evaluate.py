"""`evaluate`: how often a policy does the tabletop suite's tasks, in closed loop."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

from vla_server_base.commands.circumstances import circumstances, weights_hash
from vla_server_base.commands.options import Evaluate
from vla_server_base.commands.program import Config, PolicyProgram
from vla_server_base.commands.progress import phase, progress
from vla_server_base.config import ConfigError
from vla_server_base.episodes.policies import HttpPolicy, is_address
from vla_server_base.episodes.scene_cameras import scene_cameras
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.errors import Interrupted, RequestError, UsageError
from vla_server_base.extras import how_to_install
from vla_server_base.scenes.messages import View
from vla_server_base.tabletop.evaluation import (
    Episodes,
    PlayedTrial,
    evaluate,
    grounding_trials,
)
from vla_server_base.tabletop.local_episodes import EvaluationPlan, local_episodes
from vla_server_base.tabletop.profile import Profile, profile_of
from vla_server_base.tabletop.remote_episodes import RemoteEpisodes
from vla_server_base.tabletop.results import Part, Results
from vla_server_base.tabletop.summary import grounding_table, success_table
from vla_server_base.tabletop.tasks import TabletopTask, tasks_beginning
from vla_server_base.tabletop.trials import Trial, draw_trial

DEFAULT_WORKERS = 2


def run(options: Evaluate[Config], program: PolicyProgram[Config]) -> None:
    """Evaluate and print the report; the results so far are printed even if it ends early."""
    runs: list[Results] = []
    try:
        asyncio.run(evaluate_policy(options, program, runs))
    except KeyboardInterrupt as interrupt:
        raise _interrupted(options, program, runs) from interrupt
    finally:
        if runs and runs[0].found:
            print(report(runs[0]))


def _interrupted(options: Evaluate[Any], program: PolicyProgram[Any], runs: list[Results]) -> Interrupted:
    if options.out is None:
        return Interrupted(
            "its results are not kept", hint="add --out FILE to keep them; the same command then continues"
        )
    num_found = len(runs[0].found) if runs else 0
    return Interrupted(f"{options.out} holds {num_found} trials", hint=f"to go on: {program.typed}")


async def evaluate_policy(options: Evaluate[Config], program: PolicyProgram[Config], runs: list[Results]) -> None:
    """Play all trials that are not in the results' file yet; `runs` gets the results, which grow from then on."""
    _check_engine(options)
    tasks = tasks_beginning(options.tasks)
    # Here twice as many as are simulated at once, so that no worker waits for the policy.
    num_at_once = options.server.scene_workers * (2 if options.through == "predict" else 1) * _num_workers(options)
    async with _episodes(options, program) as (episodes, policy, profile):
        spread = {"workers": f"{_num_workers(options)} workers on Ray"} if options.engine == "ray" else {}
        run_of = {**circumstances(program, policy), **spread, "profile": str(profile)}
        results = Results(options.out, _conditions(options, policy, profile), run_of)
        runs.append(results)
        for part, trials in _trials(options, tasks, profile).items():
            left = [trial for trial in trials if (part, trial.task.name, trial.seed) not in results.found]
            if not left:
                continue
            playing = evaluate(episodes, left, _settings(options), num_at_once=num_at_once)
            num_done = 0
            with progress(len(left), part, "trial") as bar:
                async with aclosing(playing):
                    async for played in playing:
                        results.add(part, played.result)
                        num_done += played.result.success
                        bar.set_postfix(done=num_done, refresh=False)
                        bar.update()
                        _keep_video(options, played)


def _trials(options: Evaluate[Any], tasks: Sequence[TabletopTask], profile: Profile) -> Mapping[Part, list[Trial]]:
    seeds = range(options.seed, options.seed + options.trials)
    draw = partial(draw_trial, robot=options.robot, split=options.split)
    num_scenes = options.grounding
    if num_scenes is None:
        num_scenes = options.trials * (profile.reads_instruction and any(task.verb == "pick_up" for task in tasks))
    scenes = range(options.seed, options.seed + num_scenes)
    return {
        # By turns, so that what was found by an interruption is of all tasks.
        "suite": [draw(task, seed) for seed in seeds for task in tasks],
        "grounding": list(grounding_trials(scenes, robot=options.robot, split=options.split)),
    }


@asynccontextmanager
async def _episodes(
    options: Evaluate[Config], program: PolicyProgram[Config]
) -> AsyncIterator[tuple[Episodes, Mapping[str, Any], Profile]]:
    """Give where trials are played, what the policy says of itself, and what the suite gives to it."""
    if options.through == "execute":
        async with _remote_episodes(options) as opened:
            yield opened
    elif options.engine == "ray":
        async with _ray_episodes(options, program) as opened:
            yield opened
    else:
        plan = _plan(options, program)
        if not plan.is_served:
            phase(f"loading and compiling {options.policy}")
        async with local_episodes(plan) as local:
            yield local.episodes, local.info, local.profile


@asynccontextmanager
async def _remote_episodes(options: Evaluate[Any]) -> AsyncIterator[tuple[Episodes, Mapping[str, Any], Profile]]:
    is_remote = is_address(options.policy)
    if not is_remote or options.window is not None:
        raise RequestError(
            f"--through execute: {'--window is given' if is_remote else 'the policy is not an address'}",
            hint="give a server's address (http://...) and leave --window out",
        )
    async with HttpPolicy(options.policy, options.config.dataset, priority="batch") as server:
        profile = profile_of(server.spec, options.robot, _settings(options))
        yield RemoteEpisodes(server=server, cameras=profile.cameras), server.info, profile


@asynccontextmanager
async def _ray_episodes(
    options: Evaluate[Config], program: PolicyProgram[Config]
) -> AsyncIterator[tuple[Episodes, Mapping[str, Any], Profile]]:
    try:
        from vla_server_base.fleet.cluster import connected
        from vla_server_base.fleet.evaluation import RayEpisodes
    except ImportError as error:
        raise ConfigError("--engine ray: Ray is not installed", hint=how_to_install("ray")) from error
    phase(f"starting workers on {f'the cluster at {options.address}' if options.address else 'this machine'}")
    with connected(options.address or "", num_cpus=_num_workers(options) * options.server.scene_workers):
        workers = RayEpisodes(
            _plan(options, program),
            num_workers=_num_workers(options),
            num_at_once=2 * options.server.scene_workers,
            packages=program.packages,
        )
        async with workers:
            yield workers, workers.report.info, workers.report.profile


def _plan(options: Evaluate[Any], program: PolicyProgram[Any]) -> EvaluationPlan:
    return EvaluationPlan(
        policy=options.policy,
        adapter=program.adapter,
        config=options.config,
        server=options.server,
        robot=options.robot,
        window=options.window,
        settings=_settings(options),
    )


def _num_workers(options: Evaluate[Any]) -> int:
    return 1 if options.engine == "in-process" else options.workers or DEFAULT_WORKERS


def _check_engine(options: Evaluate[Any]) -> None:
    """Refuse flags that do nothing together.

    Raises:
        UsageError: naming them.
    """
    if options.engine == "in-process" and (options.workers is not None or options.address is not None):
        raise UsageError(
            f"{'--workers' if options.address is None else '--address'} is given without --engine ray",
            hint="add --engine ray",
        )
    if options.engine == "ray" and options.through == "execute":
        raise UsageError(
            "--engine ray and --through execute cannot be combined: the server plays the episodes, not the workers",
            hint="leave --through out, or --engine; --scene-workers says how many episodes the server plays at once",
        )


def _settings(options: Evaluate[Any]) -> EpisodeSettings:
    return EpisodeSettings(
        max_steps=options.max_steps,
        execution=options.execution,
        execution_horizon=options.execution_horizon,
        ensemble_weight=options.ensemble_weight,
        latency_s=options.latency_ms / 1e3,
        view=View(substitutes=scene_cameras(options.server)),
        with_images=options.videos is not None,
    )


def _conditions(options: Evaluate[Any], policy: Mapping[str, Any], profile: Profile) -> Mapping[str, Any]:
    """Return what makes two runs the same evaluation."""
    names = ("split", "robot", "through", "latency_ms", "max_steps")
    return {
        "policy": weights_hash(policy) or policy["model"],
        "dataset": options.config.dataset or policy["default_dataset"],
        "window": options.window or policy["window"],
        **{name: getattr(options, name) for name in names},
        "cameras": dict(profile.cameras),
        "execution": profile.execution.execution,
        "execution_horizon": profile.execution.execution_horizon,
        "ensemble_weight": profile.execution.ensemble_weight,
    }


def _keep_video(options: Evaluate[Any], played: PlayedTrial) -> None:
    if options.videos is None or played.video is None or len(list(options.videos.glob("*.webp"))) >= options.max_videos:
        return
    options.videos.mkdir(parents=True, exist_ok=True)
    instruction = re.sub(r"\W+", "_", played.trial.instruction)
    (options.videos / f"{played.result.task}-{played.result.seed}-{instruction}.webp").write_bytes(played.video)


def report(results: Results) -> str:
    """Return how the policy did, as Markdown."""
    command, *others = results.run.values()
    sections = [f"`{command}`: {'; '.join(others)}."]
    if suite := results.of("suite"):
        sections.append(success_table(suite))
    if grounding := results.of("grounding"):
        sections.append(grounding_table(grounding))
    return "\n\n".join(sections)

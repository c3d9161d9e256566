"""`evaluate`: how often a policy does the tabletop suite's tasks, in closed loop."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any

from vla_server_base.cache_folder import writable_cache
from vla_server_base.commands.circumstances import circumstances, weights_hash
from vla_server_base.commands.options import Evaluate
from vla_server_base.commands.program import Config, PolicyProgram
from vla_server_base.commands.progress import phase, progress
from vla_server_base.episodes.chunk_plan import check_guidance
from vla_server_base.episodes.interfaces import EpisodePolicy
from vla_server_base.episodes.policies import HttpPolicy, LastObservations, load_policy
from vla_server_base.episodes.scene_cameras import scene_cameras
from vla_server_base.episodes.settings import EpisodeSettings
from vla_server_base.errors import Interrupted, RequestError
from vla_server_base.scenes.messages import View
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.tabletop.evaluation import (
    Episodes,
    LocalEpisodes,
    PlayedTrial,
    evaluate,
    grounding_trials,
)
from vla_server_base.tabletop.profile import Profile, profile_of
from vla_server_base.tabletop.remote_episodes import RemoteEpisodes
from vla_server_base.tabletop.results import Part, Results
from vla_server_base.tabletop.summary import grounding_table, success_table
from vla_server_base.tabletop.tasks import TabletopTask, tasks_beginning
from vla_server_base.tabletop.trials import Trial, draw_trial
from vla_server_base.tabletop.variants import with_patience


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
    tasks = tasks_beginning(options.tasks)
    # Here twice as many as are simulated at once, so that no worker waits for the policy.
    num_at_once = options.server.scene_workers * (2 if options.through == "predict" else 1)
    async with _episodes(options, program) as (episodes, policy, profile):
        run_of = {**circumstances(program, policy), "profile": str(profile)}
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
    is_remote = options.policy.startswith(("http://", "https://"))
    settings = _settings(options)
    if options.through == "execute":
        if not is_remote or options.window is not None:
            raise RequestError(
                f"--through execute: {'--window is given' if is_remote else 'the policy is not an address'}",
                hint="give a server's address (http://...) and leave --window out",
            )
        async with HttpPolicy(options.policy, options.config.dataset, priority="batch") as server:
            profile = profile_of(server.spec, options.robot, settings)
            yield RemoteEpisodes(server=server, cameras=profile.cameras), server.info, profile
        return
    async with ScenePool(with_patience(options.server)) as pool, _policy(options, program) as (policy, info):
        profile = profile_of(policy.spec, options.robot, settings)
        check_guidance(policy, profile.execution)
        yield LocalEpisodes(policy=policy, world=pool), info, profile


@asynccontextmanager
async def _policy(
    options: Evaluate[Config], program: PolicyProgram[Config]
) -> AsyncIterator[tuple[EpisodePolicy, Mapping[str, Any]]]:
    """Give the policy that is asked for each chunk, and what it says of itself."""
    async with AsyncExitStack() as stack:
        if options.policy.startswith(("http://", "https://")):
            server = await stack.enter_async_context(
                HttpPolicy(options.policy, options.config.dataset, priority="batch")
            )
            policy, info = server, server.info
        else:
            adapter = program.make_adapter(options.config)
            phase(f"loading and compiling {options.policy}")
            cache_dir = stack.enter_context(writable_cache(options.server.cache_dir))
            config = dataclasses.replace(options.server, cache_dir=cache_dir)
            policy = await stack.enter_async_context(load_policy(adapter, options.policy, config=config))
            info = dataclasses.asdict(adapter.spec)
        yield policy if options.window is None else LastObservations(policy, options.window), info


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

"""`demonstrate`: experts show the tabletop suite's tasks, and what they do is recorded to learn from."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any

from vla_server_base.cache_folder import writable_cache
from vla_server_base.commands.options import Demonstrate
from vla_server_base.commands.program import PolicyProgram
from vla_server_base.commands.progress import phase, progress
from vla_server_base.config import ServerConfig, config_from_environment
from vla_server_base.datasets import EpisodeWriter, form_of, open_dataset, open_writer
from vla_server_base.episodes.interfaces import EpisodePolicy
from vla_server_base.episodes.policies import HttpPolicy, is_address, load_policy
from vla_server_base.errors import Interrupted, RequestError
from vla_server_base.scenes.messages import ControlSettings
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.tabletop.dagger import RollInPolicy
from vla_server_base.tabletop.demonstrations import Demonstrations, DemonstrationSettings
from vla_server_base.tabletop.splits import FIRST_SEED
from vla_server_base.tabletop.tasks import tasks_beginning
from vla_server_base.tabletop.trials import Trial, draw_trial
from vla_server_base.tabletop.variants import with_patience

SEEDS_IN_ROUND = 50
"""Within this many seeds, trials are ordered by scene: a worker holds 8 scenes compiled, of 64."""


def run(options: Demonstrate, program: PolicyProgram[Any]) -> None:
    """Record, and say how much."""
    try:
        asyncio.run(_demonstrate(options, program))
    except KeyboardInterrupt as interrupt:
        num_recorded = len(recorded_trials(options.out))
        raise Interrupted(
            f"{options.out} holds {num_recorded} episodes", hint=f"to record the others: {program.typed}"
        ) from interrupt


async def _demonstrate(options: Demonstrate, program: PolicyProgram[Any]) -> None:
    sides, recorded = _sides(options), recorded_trials(options.out)
    trials = [trial for trial in _trials(options) if (trial.task.name, trial.seed) not in recorded]
    server = config_from_environment(ServerConfig, "VLA")
    server = with_patience(dataclasses.replace(server, scene_workers=options.workers))
    num_recorded = 0
    with ExitStack() as writers:
        writer = writers.enter_context(closing(_writer(options, options.out)))
        views_writer = None
        if options.random_views:
            views_writer = writers.enter_context(closing(_writer(options, random_views_out(options.out))))
        async with ScenePool(server) as pool, _roll_in(options, program, server) as roll_in:
            settings = DemonstrationSettings(
                image_sides=sides, resize=program.resizing, roll_in=roll_in, random_views=options.random_views
            )
            # As many again as are simulated at once, so that no worker waits for this process.
            making = Demonstrations(pool, trials, settings, keep_failures=True, num_at_once=2 * options.workers)
            bar = writers.enter_context(progress(len(trials), "demonstrating", "episode"))
            async with aclosing(aiter(making)) as demonstrations:
                async for demonstration in demonstrations:
                    for view in demonstration.random_views:
                        assert views_writer is not None, "no random views were asked for"
                        await asyncio.to_thread(views_writer.append, view.recorded())
                    if demonstration.is_worth_learning:
                        await asyncio.to_thread(writer.append, demonstration.recorded())
                        num_recorded += 1
                    bar.set_postfix(failed=making.num_failed, refresh=False)
                    bar.update()
    earlier = f", {len(recorded)} were there" if recorded else ""
    print(f"{options.out}: {num_recorded} episodes recorded{earlier}; {making.num_failed} failed")


def random_views_out(out: Path) -> Path:
    """Return the folder that random views are recorded to."""
    return out.with_name(f"{out.name}-random-views")


def _writer(options: Demonstrate, folder: Path) -> EpisodeWriter:
    return open_writer(folder, ControlSettings().rate_hz, options.robot, lossless=options.lossless)


def _trials(options: Demonstrate) -> Iterator[Trial]:
    end = options.seed + options.episodes_per_task
    if end > FIRST_SEED:
        raise RequestError(
            f"trials {options.seed} to {end - 1}: those from {FIRST_SEED} on are for evaluation",
            hint="choose a smaller --seed; what a policy was shown does not say how good it is",
        )
    tasks = tasks_beginning(options.tasks)
    for start in range(options.seed, end, SEEDS_IN_ROUND):
        seeds = range(start, min(start + SEEDS_IN_ROUND, end))
        drawn = [draw_trial(task, seed, robot=options.robot) for seed in seeds for task in tasks]
        yield from sorted(drawn, key=lambda trial: trial.scene.key)


def _sides(options: Demonstrate) -> Mapping[str, int]:
    given = [re.fullmatch(r"(primary|wrist)=([1-9]\d*)", size) for size in options.sizes]
    if not all(given):
        raise RequestError(
            f"--sizes {' '.join(options.sizes)}", hint="write, for example, --sizes primary=128 wrist=64"
        )
    return {match[1]: int(match[2]) for match in given if match}


@asynccontextmanager
async def _roll_in(
    options: Demonstrate, program: PolicyProgram[Any], server: ServerConfig
) -> AsyncIterator[RollInPolicy | None]:
    if options.policy is None:
        yield None
        return
    own = program.config_from_environment()
    if is_address(options.policy):
        async with HttpPolicy(options.policy, own.dataset, priority="batch") as policy:
            yield _roll_in_policy(options, policy)
        return
    phase(f"loading and compiling {options.policy}")
    with writable_cache(server.cache_dir) as cache_dir:
        config = dataclasses.replace(server, cache_dir=cache_dir)
        async with load_policy(program.make_adapter(own), options.policy, config=config) as policy:
            yield _roll_in_policy(options, policy)


def _roll_in_policy(options: Demonstrate, policy: EpisodePolicy) -> RollInPolicy:
    return RollInPolicy(
        policy=policy,
        share=options.policy_share,
        max_steps=None if options.policy_steps == "all" else options.policy_steps,
        execution_horizon=options.policy_horizon,
    )


def recorded_trials(folder: Path) -> set[tuple[str, int]]:
    """Return task and seed of the episodes that are in a folder already.

    Raises:
        DatasetError: they are damaged.
    """
    if form_of(folder) is None:
        return set()
    dataset = open_dataset(folder)
    recorded = map(dataset.metadata, range(len(dataset)))
    return {(metadata.get("task", ""), metadata.get("seed", -1)) for metadata in recorded}

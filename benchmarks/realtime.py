"""Whether a policy reaches a target that moves while it thinks: executions of chunks at several latencies.

    cd vla-servers/octo-small && uv run python ../../benchmarks/realtime.py [--trials 40] [--latency-ms 0 100 300]

Each trial is "pick up the red cube" on the Panda's table, where the cube moves at `--speed` (0 is the suite's own
task). A trial is done if the cube is lifted within `--limit` seconds of simulated time: the world does not wait, so
a mode in which the arm waits has fewer actions. Prints Markdown, one row per execution and latency, as they end.

All distances are in millimetres of the gripper's motion per control step; a command while the arm waits is 0. The
largest jump is between two consecutive commands of an episode, with and without those before the arm's first action;
the median over the trials. The disagreement is how far the rows of a chunk are from the last chunk's for the same
steps, without rows that are the last chunk's by construction: the mean over all chunks, as they would be executed.
"""

import argparse
import asyncio
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from octo_service.adapter import OctoSmallAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.episodes import EpisodeEnd, EpisodeSettings, EpisodeStep, play
from vla_server_base.episodes.chunk_plan import steps_late
from vla_server_base.episodes.interfaces import EpisodePolicy
from vla_server_base.episodes.policies import load_policy
from vla_server_base.errors import RequestError
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.sessions.continued_chunk import CONTINUED
from vla_server_base.tabletop.moving import draw_moving_trial
from vla_server_base.tabletop.summary import wilson_interval
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import Trial, draw_trial
from vla_server_base.tabletop.variants import with_patience

EXECUTIONS = ("receding", "chunk", "ensemble", "aligned", "blended", "rtc")
COLUMNS = (
    "execution",
    "latency",
    "done",
    "95 % (Wilson)",
    "median s to success",
    "largest jump",
    "without the first",
    "disagreement",
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one trial: when it was done, if it was, its jumps [m] between commands, and its chunks' disagreements [m]."""

    done_s: float | None
    jumps_m: np.ndarray
    num_waited: int
    """How many of the first jumps end in a wait or in the first action."""
    disagreements_m: np.ndarray


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled://tabletop")
    parser.add_argument("--executions", nargs="+", default=EXECUTIONS, choices=EXECUTIONS)
    parser.add_argument("--latency-ms", nargs="+", type=float, default=(0, 100, 300))
    parser.add_argument("--speed", type=float, default=0.03, help="of the target [m/s]")
    parser.add_argument("--actions", type=int, help="executed of each chunk by chunk; default: all")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=10_000)
    parser.add_argument("--limit", type=float, default=15.0, help="simulated time [s]")
    asked = parser.parse_args()
    print(f"{date.today()}: {platform.machine()}, {os.cpu_count()} cores, {versions()}")
    print(f"`python benchmarks/realtime.py {' '.join(sys.argv[1:])}`\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    config = with_patience(ServerConfig(scene_workers=1))
    seeds = range(asked.first_seed, asked.first_seed + asked.trials)
    async with load_policy(OctoSmallAdapter(), asked.model) as policy, ScenePool(config) as pool:
        for execution, latency_ms in ((one, ms) for one in asked.executions for ms in asked.latency_ms):
            try:
                settings = settings_of(execution, latency_ms, asked.limit, asked.actions or policy.spec.horizon)
                outcomes = [await outcome(policy, pool, trial_of(seed, asked.speed), settings) for seed in seeds]
            except RequestError as error:
                print(f"| {execution} | {latency_ms:g} ms | {error} | | | | | |", flush=True)
                continue
            print(f"| {execution} | {latency_ms:g} ms | {' | '.join(cells(outcomes))} |", flush=True)


def versions() -> str:
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mujoco", "jax"))
    return f"Python {platform.python_version()}, {packages}"


def settings_of(execution: str, latency_ms: float, limit_s: float, num_actions: int) -> EpisodeSettings:
    """Return how episodes run; `chunk` executes `num_actions` of each."""
    return EpisodeSettings(
        execution=execution,  # pyright: ignore[reportArgumentType]
        execution_horizon=num_actions if execution == "chunk" else None,
        latency_s=latency_ms / 1e3,
        max_steps=round(limit_s * EpisodeSettings().control.rate_hz),
    )


def trial_of(seed: int, speed: float) -> Trial:
    return draw_moving_trial(seed, speed_m_s=speed) if speed else draw_trial(TASKS["pick_up_red_cube"], seed)


async def outcome(policy: EpisodePolicy, pool: ScenePool, trial: Trial, settings: EpisodeSettings) -> Outcome:
    """Play a trial until the cube is lifted or the time is up."""
    limit_s, steps, is_done = settings.max_steps / settings.control.rate_hz, list[EpisodeStep](), False
    scene, task, of_trial = trial.episode(
        execution=settings.execution,
        execution_horizon=settings.execution_horizon,
        latency_s=settings.latency_s,
        max_steps=settings.max_steps,
    )
    async for event in play(policy, pool, scene, task, of_trial):
        if isinstance(event, EpisodeStep):
            steps.append(event)
            if event.result.state.time_s > limit_s:
                break
            is_done = event.success
        if isinstance(event, EpisodeEnd):
            break
    commands = np.array(list(commands_of(steps, 1 / settings.control.rate_hz)))
    num_kept = steps_late(settings) if settings.execution in CONTINUED else 0
    return Outcome(
        done_s=steps[-1].result.state.time_s if is_done else None,
        jumps_m=np.linalg.norm(np.diff(commands, axis=0), axis=1),
        num_waited=int(commands.any(axis=1).argmax()),
        disagreements_m=np.array(list(disagreements_of(steps, num_kept))),
    )


def commands_of(steps: list[EpisodeStep], period_s: float) -> Iterator[np.ndarray]:
    """Yield the motion [m] commanded in each control step: 0 where the arm waited for a chunk."""
    before_s = 0.0
    for step in steps:
        time_s = step.result.state.time_s
        if time_s - before_s > 1.01 * period_s:
            yield np.zeros(3)
        yield step.action[:3]
        before_s = time_s


def disagreements_of(steps: list[EpisodeStep], num_kept: int) -> Iterator[float]:
    """Yield how far each row after a chunk's `num_kept` first is from the last chunk's for the same step [m]."""
    last = None
    for step in steps:
        if step.chunk is None:
            continue
        if last is not None:
            since, chunk = last
            old = chunk[step.index - since :]
            yield from np.linalg.norm((step.chunk[: len(old)] - old)[num_kept:, :3], axis=1).tolist()
        last = step.index, step.chunk


def cells(outcomes: list[Outcome]) -> Iterator[str]:
    times = [outcome.done_s for outcome in outcomes if outcome.done_s is not None]
    low, high = wilson_interval(len(times), len(outcomes))
    yield f"{len(times)} of {len(outcomes)}"
    yield f"{low:.0%} to {high:.0%}"
    yield f"{np.median(times):.1f}" if times else ""
    yield f"{1e3 * np.median([outcome.jumps_m.max(initial=0) for outcome in outcomes]):.0f}"
    yield f"{1e3 * np.median([outcome.jumps_m[outcome.num_waited :].max(initial=0) for outcome in outcomes]):.0f}"
    disagreements = np.concatenate([outcome.disagreements_m for outcome in outcomes])
    yield f"{1e3 * disagreements.mean():.1f}" if len(disagreements) else ""


if __name__ == "__main__":
    asyncio.run(main())

"""Whether the tabletop suite's experts do what they are to show: success of each task, with and without disturbances.

    cd vla-server-base && uv run python ../benchmarks/experts.py [--trials 200] [--disturbed 50] [--robot panda]

Prints Markdown with Wilson's 95 % intervals; ends with status 1 where the rate of an undisturbed task is below 97 %.
"""

import argparse
import asyncio
import importlib.metadata
import os
import platform
import sys
from datetime import date

import numpy as np

from vla_server_base.config import ServerConfig
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.tabletop.demonstrations import Demonstrations, DemonstrationSettings
from vla_server_base.tabletop.summary import wilson_interval
from vla_server_base.tabletop.tables import TABLES
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import Trial, draw_trial

UNDISTURBED = DemonstrationSettings(max_steps=75, view=None, disturbances=None)
DISTURBED = DemonstrationSettings(view=None)
LEAST_RATE = 0.97


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--disturbed", type=int, default=50)
    parser.add_argument("--robot", choices=TABLES, default="panda")
    parser.add_argument("--tasks", choices=TASKS, nargs="+", default=list(TASKS))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    versions = f"Python {platform.python_version()}, mujoco {importlib.metadata.version('mujoco')}"
    print(f"{date.today()}: {arguments.robot}, {platform.machine()}, {os.cpu_count()} cores, {versions}\n")
    print("| task | alone, at most 15 s | steps | disturbed, at most 20 s | steps |\n|---|---|---|---|---|")
    is_right = True
    async with ScenePool(ServerConfig(scene_workers=arguments.workers)) as pool:
        for name in arguments.tasks:
            cells = [name]
            for settings, num_trials in ((UNDISTURBED, arguments.trials), (DISTURBED, arguments.disturbed)):
                trials = [
                    draw_trial(TASKS[name], seed, robot=arguments.robot, jitter=False) for seed in range(num_trials)
                ]
                num_done, steps = await attempt(pool, trials, settings, arguments.workers)
                low, high = wilson_interval(num_done, num_trials)
                cells += [f"{num_done} of {num_trials} ({low:.1%} to {high:.1%})", f"{steps:.0f}"]
                is_right &= settings is DISTURBED or num_done >= LEAST_RATE * num_trials
            print(f"| {' | '.join(cells)} |", flush=True)
    sys.exit(not is_right)


async def attempt(
    pool: ScenePool, trials: list[Trial], settings: DemonstrationSettings, num_at_once: int
) -> tuple[int, float]:
    """Return how many trials ended well, and the median of their steps."""
    shown = Demonstrations(pool, trials, settings, num_at_once=num_at_once)
    steps = [len(demonstration.steps) - settings.steps_after async for demonstration in shown]
    return len(steps), float(np.median(steps)) if steps else float("nan")


if __name__ == "__main__":
    asyncio.run(main())

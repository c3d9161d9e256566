"""Whether the closed loop lasts: episodes in a row.

    cd vla-server-base && uv run python ../benchmarks/episodes.py [--episodes 500] [--steps 25]

The episodes ask the echo policy through the same workers, which are replaced after `--jobs` jobs each. Prints Markdown;
ends with status 1 if memory grew. That the loop is right, too, `experts.py` shows.
"""

import argparse
import asyncio
import importlib.metadata
import os
import platform
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Task
from vla_server_base.episodes import EpisodeEnd, EpisodeSettings, play
from vla_server_base.episodes.policies import load_policy
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.tabletop.variants import scene_variant
from vla_server_base.testing import EchoAdapter

MAX_GROWTH_MB = 10.0
"""Between the first tenth of the episodes and the last; the allocator's own breathing is a few MB."""


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--jobs", type=int, default=2000)
    arguments = parser.parse_args()
    versions = f"Python {platform.python_version()}, mujoco {importlib.metadata.version('mujoco')}"
    print(f"{date.today()}: {platform.machine()}, {os.cpu_count()} cores, {versions}\n")
    sys.exit(not await last(arguments.episodes, arguments.steps, arguments.jobs))


async def last(num_episodes: int, num_steps: int, max_jobs: int) -> bool:
    """Play episodes in a row; return whether this process's memory stayed what it was."""
    config = ServerConfig(scene_worker_max_jobs=max_jobs)
    scene, task = scene_variant("panda", None), Task(instruction="reach")
    memory_mb, workers, started = [], set(), time.perf_counter()
    async with load_policy(EchoAdapter(), "echo") as policy, ScenePool(config) as pool:
        for seed in range(num_episodes):
            settings, num_played = EpisodeSettings(seed=seed, max_steps=num_steps), None
            async for event in play(policy, pool, scene, task, settings):
                workers |= pool.pids
                num_played = event.num_steps if isinstance(event, EpisodeEnd) else None
            assert num_played == num_steps
            memory_mb.append(resident_mb())
    tenth = max(1, num_episodes // 10)
    first, end = np.median(memory_mb[tenth : 2 * tenth]), np.median(memory_mb[-tenth:])
    num_jobs = num_episodes * (num_steps + 1)
    print(
        f"\n{num_episodes} episodes of {num_steps} steps ({num_jobs} jobs) in {time.perf_counter() - started:.0f} s;"
        f" resident memory of the server's process {first:.1f} MB in the second tenth, {end:.1f} MB in the last;"
        f" {len(workers)} workers served, each replaced after {max_jobs} jobs"
    )
    return bool(end - first < MAX_GROWTH_MB)


def resident_mb() -> float:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    asyncio.run(main())

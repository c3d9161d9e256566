"""The closed loop is right before any policy is blamed: a script lifts the cube wherever it lies."""

import numpy as np
import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Task
from vla_server_base.episodes import EpisodeEnd, EpisodeSettings, play
from vla_server_base.episodes.policies import load_policy
from vla_server_base.scenes.messages import View
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.reach_and_lift import TABLES, random_start, reach_and_lift, tabletop

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("robot", TABLES)
async def test_the_cube_is_lifted_from_random_placements(pool, robot):
    # A hundred of each are in benchmarks/episodes.py.
    random = np.random.default_rng(1)
    for _ in range(3):
        outcome = await reach_and_lift(pool, robot, await random_start(pool, robot, random))
        assert outcome.is_lifted, outcome


async def test_workers_are_replaced_as_configured_in_the_midst_of_episodes():
    config = ServerConfig(renderer="raycast", scene_workers=1, scene_worker_max_jobs=4)
    settings = EpisodeSettings(max_steps=3, view=View(height=16, width=16))
    served = set()
    async with load_policy(EchoAdapter(), "echo") as policy, ScenePool(config) as pool:
        for _ in range(4):
            is_over = False
            async for event in play(policy, pool, tabletop("widowx"), Task(instruction="x"), settings):
                served |= pool.pids
                is_over = isinstance(event, EpisodeEnd)
            assert is_over
    assert len(served) >= 4, "16 jobs, 4 for each"

"""The closed loop is right before any policy is blamed: an expert lifts the cube wherever it lies."""

import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Task
from vla_server_base.episodes.loop import EpisodeEnd, EpisodeSettings, play
from vla_server_base.episodes.policies import load_policy
from vla_server_base.scenes.messages import View
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.tabletop.demonstrations import DemonstrationSettings, demonstrate
from vla_server_base.tabletop.tables import TABLES
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial
from vla_server_base.tabletop.variants import scene_variant
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio

UNDISTURBED = DemonstrationSettings(max_steps=75, view=None, disturbances=None)


@pytest.mark.parametrize("robot", TABLES)
async def test_the_cube_is_lifted_from_random_placements(pool, robot):
    # Two hundred trials of each task are in benchmarks/experts.py.
    for seed in range(1, 4):
        trial = draw_trial(TASKS["pick_up_red_cube"], seed, robot=robot, jitter=False)
        demonstration = await demonstrate(pool, trial, UNDISTURBED)
        assert demonstration.success, seed


async def test_workers_are_replaced_as_configured_in_the_midst_of_episodes():
    config = ServerConfig(renderer="raycast", scene_workers=1, scene_worker_max_jobs=4)
    settings = EpisodeSettings(max_steps=3, view=View(height=16, width=16))
    served = set()
    async with load_policy(EchoAdapter(), "echo") as policy, ScenePool(config) as pool:
        for _ in range(4):
            last = None
            async for event in play(policy, pool, scene_variant("widowx", None), Task(instruction="x"), settings):
                served |= pool.pids
                last = event
            assert isinstance(last, EpisodeEnd)
    assert len(served) >= 4, "16 jobs, 4 for each"

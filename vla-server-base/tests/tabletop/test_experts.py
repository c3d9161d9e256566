"""Experts do their task, from wherever they are: 200 trials of each are in benchmarks/experts.py."""

from dataclasses import replace

import numpy as np
import pytest

from vla_server_base.scenes.messages import RolloutRequest
from vla_server_base.tabletop.dagger import Disturbances
from vla_server_base.tabletop.demonstrations import DemonstrationSettings, demonstrate
from vla_server_base.tabletop.experts import STRIDE_M, TURN_RAD, expert_action
from vla_server_base.tabletop.tables import OBJECTS, TABLES, read_state
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial

pytestmark = pytest.mark.anyio
ALONE = DemonstrationSettings(max_steps=75, view=None, disturbances=None)


SOME = (
    "pick_up_red_cube",
    "pick_up_blue_cube",
    "pick_up_green_sphere",
    "push_left_red_cube",
    "push_right_blue_cube",
    "push_left_green_sphere",
    "put_on_red_cube_blue_cube",
    "put_on_green_sphere_red_cube",
    "put_next_to_red_cube_green_sphere",
    "put_next_to_blue_cube_red_cube",
)


@pytest.mark.parametrize("name", SOME)
async def test_a_task_is_undone_at_the_start_and_done_by_its_expert(pool, name):
    task = TASKS[name]
    trial = draw_trial(task, 100, jitter=False)
    success = task.success(trial.table)
    measures = tuple(predicate.measure for predicate in success)
    start = await pool.roll_out(trial.scene, RolloutRequest(start=trial.start, measures=measures))
    held = [predicate.holds(value, value) for predicate, value in zip(success, start.measures, strict=True)]
    assert not all(held)
    demonstration = await demonstrate(pool, trial, ALONE)
    assert demonstration.success
    actions = np.array([step.label for step in demonstration.steps])
    assert np.linalg.norm(actions[:, :3], axis=1).max() <= STRIDE_M + 1e-9
    assert np.linalg.norm(actions[:, 3:6], axis=1).max() <= TURN_RAD + 1e-9
    assert set(actions[:, 6]) <= {0.0, 1.0}


@pytest.mark.parametrize("name", ["pick_up_green_sphere", "push_right_red_cube", "put_on_red_cube_blue_cube"])
async def test_the_other_robot_does_the_same_tasks(pool, name):
    trial = draw_trial(TASKS[name], 0, robot="widowx", jitter=False)
    assert (await demonstrate(pool, trial, ALONE)).success


@pytest.mark.parametrize("name", ["pick_up_red_cube", "push_left_blue_cube", "put_on_blue_cube_red_cube"])
async def test_nudges_and_dropped_grasps_are_recovered_from(pool, name):
    often = Disturbances(nudge_rate=0.12, drop_rate=0.04)
    trial = draw_trial(TASKS[name], 4, jitter=False)
    demonstration = await demonstrate(pool, trial, replace(ALONE, max_steps=100, disturbances=often))
    assert demonstration.success
    assert sum((step.executed != step.label).any() for step in demonstration.steps) >= 4, "it was disturbed"


async def test_a_dropped_object_is_picked_up_again(pool):
    trial = draw_trial(TASKS["pick_up_blue_cube"], 2, jitter=False)
    reply = await pool.roll_out(trial.scene, RolloutRequest(start=trial.start))
    state, pose, rises, drops = reply.state, reply.pose, [], []
    for _ in range(60):
        action = expert_action(read_state(trial.table, state, pose), trial.task)
        is_dropped = bool(rises) and rises[-1] > 0.04 and not any(drops)
        if is_dropped:
            action[6] = 1.0
        reply = await pool.roll_out(trial.scene, RolloutRequest(start=reply.end, actions=action[None]))
        state, pose = reply.steps[0].state, reply.steps[0].pose
        height = read_state(trial.table, state, pose).objects["blue_cube"].position[2]
        rises.append(height - trial.table.half_size)
        drops.append(is_dropped)
    dropped = drops.index(True)
    assert min(rises[dropped:]) < 0.005, "it fell"
    assert rises[-1] > 0.1, "it was lifted again"


@pytest.mark.parametrize("robot", TABLES)
async def test_the_instruction_decides_which_object_is_picked_up(pool, robot):
    trial = draw_trial(TASKS["pick_up_red_cube"], 7, robot=robot, jitter=False)
    for name in OBJECTS:
        renamed = replace(trial, task=TASKS[f"pick_up_{name}"])
        assert (await demonstrate(pool, renamed, ALONE)).success

"""The target moves as fast as it is said to, and nothing else does."""

import numpy as np
import pytest

from vla_server_base.scenes.messages import ControlSettings, RolloutRequest
from vla_server_base.tabletop.moving import TARGET, draw_moving_trial
from vla_server_base.tabletop.tables import OBJECTS, TABLES

HELD = np.array([0, 0, 0, 0, 0, 0, 1.0])


def objects_of(trial, state) -> np.ndarray:
    return trial.table.objects(state.qpos)


@pytest.mark.anyio
@pytest.mark.parametrize("robot", TABLES)
@pytest.mark.parametrize("speed", [0.0, 0.02, 0.05])
async def test_a_belt_carries_the_target_at_its_speed(pool, robot, speed):
    trial = draw_moving_trial(3, speed_m_s=speed, robot=robot)
    request = RolloutRequest(start=trial.start, control=ControlSettings(), actions=np.tile(HELD, (20, 1)))
    reply = await pool.roll_out(trial.scene, request)
    start, end = (objects_of(trial, state) for state in (trial.start, reply.steps[-1].state))
    moved = dict(zip(OBJECTS, end[:, :3] - start[:, :3], strict=True))
    target = moved.pop(TARGET)
    np.testing.assert_allclose(np.abs(target), [0, 4 * speed, 0], atol=2e-3)
    assert np.sign(target[1].round(3)) == -np.sign(start[OBJECTS.index(TARGET), 1]) * (speed > 0)
    assert all(np.linalg.norm(other) < 1e-3 for other in moved.values())


def test_a_trial_follows_from_its_seed():
    once, again, other = draw_moving_trial(1), draw_moving_trial(1), draw_moving_trial(2)
    once_at, again_at, other_at = (objects_of(trial, trial.start) for trial in (once, again, other))
    np.testing.assert_array_equal(once_at, again_at)
    assert not np.array_equal(once_at, other_at)
    fast = draw_moving_trial(1, speed_m_s=0.05)
    np.testing.assert_array_equal(once_at, objects_of(fast, fast.start))
    assert once.start.qvel is not None
    assert fast.start.qvel is not None
    np.testing.assert_allclose(fast.start.qvel, once.start.qvel * 5 / 3)


@pytest.mark.parametrize("robot", TABLES)
def test_the_belt_is_clear_of_other_objects(robot):
    for trial in (draw_moving_trial(seed, robot=robot) for seed in range(30)):
        target, *others = objects_of(trial, trial.start)
        for other in others:
            assert abs(other[0] - target[0]) > 1.6 * trial.table.half_size + np.sqrt(2) * trial.table.half_size

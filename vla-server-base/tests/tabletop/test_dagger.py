"""Which actions are executed: the policy's at first, then the expert's with disturbances, all from the seed."""

from dataclasses import replace

import numpy as np
import pytest

from vla_server_base.errors import RequestError
from vla_server_base.tabletop.dagger import BehaviorPolicy, Disturbances, RollInPolicy
from vla_server_base.tabletop.experts import OPEN, STRIDE_M, TURN_RAD
from vla_server_base.tabletop.tasks import TASKS
from vla_server_base.tabletop.trials import draw_trial
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio

TRIAL = draw_trial(TASKS["pick_up_red_cube"], 1, jitter=False)
LABEL = np.array([0.01, 0.0, -0.02, 0.0, 0.0, 0.1, 0.0])
IMAGES = {name: np.zeros((8, 8, 3), np.uint8) for name in ("primary", "wrist")}


class CountingPolicy:
    """Gives chunks of two actions that say how often it was asked, and keeps what it was shown."""

    cameras, window = ("primary",), 2
    spec = replace(EchoAdapter().spec, cameras=EchoAdapter().spec.cameras[:1], proprio_dim=None)

    def __init__(self):
        self.asked = []

    async def predict(self, window, task, seed, step):
        self.asked.append((window, task.instruction, seed, step))
        return np.full((2, 7), float(len(self.asked)))


async def actions(behavior: BehaviorPolicy, num_steps: int) -> np.ndarray:
    return np.array([await behavior.action(step, LABEL, IMAGES) for step in range(num_steps)])


async def test_an_undisturbed_expert_is_executed_as_it_is():
    executed = await actions(BehaviorPolicy(TRIAL, None, None, 20), 20)
    np.testing.assert_array_equal(executed, [LABEL] * 20)


async def test_disturbances_follow_from_the_seed():
    often = Disturbances(nudge_rate=0.3, drop_rate=0.2)
    first, second = [await actions(BehaviorPolicy(TRIAL, often, None, 50), 50) for _ in range(2)]
    np.testing.assert_array_equal(first, second)
    other = draw_trial(TRIAL.task, 2, jitter=False)
    assert not np.array_equal(first, await actions(BehaviorPolicy(other, often, None, 50), 50))


async def test_disturbed_actions_keep_the_experts_bounds():
    always = Disturbances(nudge_rate=1.0, drop_rate=0.0)
    executed = await actions(BehaviorPolicy(TRIAL, always, None, 50), 50)
    assert (executed[:, :6] != LABEL[:6]).any(axis=1).all()
    assert np.linalg.norm(executed[:, :3], axis=1).max() <= STRIDE_M + 1e-9
    assert np.linalg.norm(executed[:, 3:6], axis=1).max() <= TURN_RAD + 1e-9
    assert set(executed[:, 6]) == {LABEL[6]}


async def test_a_drop_opens_the_gripper_and_changes_nothing_else():
    executed = await actions(BehaviorPolicy(TRIAL, Disturbances(nudge_rate=0.0, drop_rate=0.1), None, 60), 60)
    np.testing.assert_array_equal(executed[:, :6], [LABEL[:6]] * 60)
    assert set(executed[:, 6]) == {OPEN, LABEL[6]}


async def test_a_roll_in_to_the_end_leaves_the_expert_no_step():
    policy = CountingPolicy()
    roll_in = RollInPolicy(policy=policy, max_steps=None, execution_horizon=2)
    behavior = BehaviorPolicy(TRIAL, Disturbances(), roll_in, 6)
    executed = await actions(behavior, 6)
    assert executed[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert not any(behavior.expert_acts(step) for step in range(6))
    assert [(instruction, seed, step) for _, instruction, seed, step in policy.asked] == [
        (TRIAL.instruction, TRIAL.seed, step) for step in (0, 2, 4)
    ]


async def test_a_roll_in_policy_sees_only_its_own_cameras():
    policy = CountingPolicy()
    await actions(BehaviorPolicy(TRIAL, None, RollInPolicy(policy=policy, max_steps=None), 1), 1)
    window = policy.asked[0][0]
    assert [set(observation.images) for observation in window.observations] == [{"primary"}] * 2
    assert window.timestep_pad_mask.tolist() == [False, True]


async def test_the_expert_takes_over_after_the_roll_in():
    roll_in = RollInPolicy(policy=CountingPolicy(), max_steps=25)
    num_steps = roll_in.num_steps(TRIAL, 100)
    behavior = BehaviorPolicy(TRIAL, None, roll_in, 100)
    assert [behavior.expert_acts(step) for step in (num_steps - 1, num_steps)] == [num_steps == 0, True]
    np.testing.assert_array_equal(await behavior.action(num_steps, LABEL, IMAGES), LABEL)


async def test_a_chunk_that_is_too_short_is_refused_with_a_hint():
    roll_in = RollInPolicy(policy=CountingPolicy(), max_steps=None, execution_horizon=3)
    with pytest.raises(RequestError, match="execution_horizon") as error:
        await BehaviorPolicy(TRIAL, None, roll_in, 4).action(0, LABEL, IMAGES)
    assert "--policy-horizon" in error.value.hint


@pytest.mark.parametrize(("share", "max_steps", "expected"), [(0.0, 25, {0}), (1.0, None, {40}), (1.0, 2, {0, 1, 2})])
def test_share_and_steps_bound_the_roll_in(share, max_steps, expected):
    roll_in = RollInPolicy(policy=CountingPolicy(), share=share, max_steps=max_steps)
    trials = [draw_trial(TRIAL.task, seed, jitter=False) for seed in range(30)]
    assert {roll_in.num_steps(trial, 40) for trial in trials} == expected

"""While the policy thinks the world goes on, and with an execution that continues chunks so does the arm."""

import dataclasses

import numpy as np
import pytest

from vla_server_base.contract import Task
from vla_server_base.episodes import EpisodeSettings, EpisodeStep, play
from vla_server_base.episodes.interfaces import GuidedChunk
from vla_server_base.errors import RequestError
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import Scene, View
from vla_server_base.sessions.continued_chunk import continued
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio
SCENE, TASK = Scene(xml=bundled_scene("panda", "tabletop")), Task(instruction="go")
HORIZON = 6
SPEC = dataclasses.replace(
    EchoAdapter().spec, cameras=EchoAdapter().spec.cameras[:1], proprio_dim=None, horizon=HORIZON, supports_rtc=True
)


def row(asked: int, number: int) -> np.ndarray:
    """What a policy that was asked at a step says of the `number`th step from then on."""
    return np.array([1e-4 * asked, 1e-4 * number, 0, 0, 0, 0, 1.0])


class Counting:
    """A policy whose actions say which step they answer."""

    window, cameras, spec = 1, ("primary",), SPEC

    def __init__(self):
        self.asked, self.previous = [], []

    async def predict(self, window, task, seed, step):
        self.asked.append(step)
        return np.array([row(step, number) for number in range(HORIZON)])


class Guided(Counting):
    """The same, which can be guided: its rows are ten times its actions."""

    async def predict_guided(self, window, task, seed, step, previous):
        self.previous.append(previous)
        actions = await self.predict(window, task, seed, step)
        return GuidedChunk(actions=actions, rows=10 * actions)


async def played(pool, policy, **settings) -> list[EpisodeStep]:
    settings = EpisodeSettings(**{"max_steps": 9, "view": View(height=16, width=16), **settings})
    events = [event async for event in play(policy, pool, SCENE, TASK, settings)]
    return [event for event in events if isinstance(event, EpisodeStep)]


def answered(steps) -> list[tuple[int, int]]:
    """Return for each step which step's answer was executed, and which row of it."""
    return [tuple((1e4 * step.action[:2]).round().astype(int).tolist()) for step in steps]


async def test_an_aligned_chunk_begins_with_what_is_executed_until_it_arrives(pool):
    policy = Counting()
    steps = await played(pool, policy, execution="aligned", latency_s=0.4)
    assert policy.asked == [0, 2, 4, 6, 8]
    # The first chunk is waited for; each answer is two steps old when it is executed.
    assert answered(steps) == [(0, 0), (0, 1), (0, 2), (0, 3), (2, 2), (2, 3), (4, 2), (4, 3), (6, 2)]
    times = [step.result.state.time_s for step in steps]
    np.testing.assert_allclose(np.diff([0, *times]), [0.6, *[0.2] * 8], atol=1e-9)


async def test_latency_is_rounded_up_to_whole_steps(pool):
    for latency_s, asked in ((0.0, [0, 1, 2, 3]), (0.1, [0, 1, 2, 3]), (0.2, [0, 1, 2, 3]), (0.21, [0, 2])):
        policy = Counting()
        await played(pool, policy, execution="aligned", latency_s=latency_s, max_steps=4)
        assert policy.asked == asked


async def test_chunks_of_one_action_leave_nothing_to_continue(pool):
    class Single(Counting):
        spec = dataclasses.replace(SPEC, horizon=1)

        async def predict(self, window, task, seed, step):
            return (await super().predict(window, task, seed, step))[:1]

    for execution in ("aligned", "blended"):
        steps = await played(pool, Single(), execution=execution, max_steps=3)
        assert answered(steps) == [(0, 0), (1, 0), (2, 0)]


async def test_where_the_chunk_is_used_up_the_arm_holds_still(pool):
    policy = Counting()
    steps = await played(pool, policy, execution="aligned", latency_s=0.8)
    assert policy.asked == [0, 4, 8]
    assert answered(steps) == [*((0, number) for number in range(6)), (0, 0), (0, 0), (4, 4)]
    np.testing.assert_array_equal(steps[6].action, [0, 0, 0, 0, 0, 0, 1])


async def test_a_blended_chunk_goes_over_from_the_old_one_to_the_new(pool):
    steps = await played(pool, Counting(), execution="blended", latency_s=0.2, execution_horizon=3, max_steps=3)
    old = np.array([row(0, number) for number in range(1, HORIZON)])
    chunk = steps[1].chunk
    assert chunk is not None
    np.testing.assert_array_equal(chunk[0], old[0])
    assert 0 < chunk[1, 0] < 1e-4, "between the answers to steps 0 and 1"
    np.testing.assert_array_equal(chunk[3], row(1, 3))


async def test_guidance_gets_the_rest_of_the_last_chunk_as_the_policy_returned_it(pool):
    policy = Guided()
    steps = await played(pool, policy, execution="rtc", latency_s=0.4, max_steps=5)
    first, second, third = policy.previous
    assert first is None
    np.testing.assert_allclose(second.actions, [10 * row(0, number) for number in range(2, HORIZON)])
    assert (second.inference_delay, second.execution_horizon) == (2, 3)
    rows = continued(np.array([10 * row(2, number) for number in range(HORIZON)]), second, "rtc")
    np.testing.assert_allclose(third.actions, rows[2:])
    assert answered(steps) == [(0, 0), (0, 1), (0, 2), (0, 3), (2, 2)]


async def test_the_same_seed_gives_the_same_episode(pool):
    once, again = [await played(pool, Counting(), execution="aligned", latency_s=0.3) for _ in range(2)]
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.result.state.qpos, other.result.state.qpos)


async def test_a_preview_of_a_continued_chunk_is_what_then_comes_true(pool):
    steps = await played(pool, Counting(), execution="aligned", latency_s=0.4, preview=True)
    for asked in (2, 4):
        preview = steps[asked].preview or ()
        for ahead in range(2):
            np.testing.assert_array_equal(preview[ahead].state.qpos, steps[asked + ahead].result.state.qpos)


async def test_the_policys_own_execution_is_the_default(pool):
    policy = Counting()
    policy.spec = dataclasses.replace(SPEC, execution="chunk", execution_horizon=3)
    await played(pool, policy)
    assert policy.asked == [0, 3, 6]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"execution": "aligned", "latency_s": 1.2},
            "a chunk of 6 actions at 5 Hz is over before the next one",
        ),
        (
            {"execution": "rtc"},
            "execution rtc: the last chunk that guides the next one is known only where the policy runs",
        ),
        ({"execution_horizon": 7}, "execution_horizon: expected 1 to 6"),
    ],
)
async def test_what_cannot_be_is_refused(pool, settings, message):
    with pytest.raises(RequestError, match=message):
        await played(pool, Counting(), **settings)

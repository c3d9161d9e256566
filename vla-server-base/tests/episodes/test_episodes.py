"""Episodes close the loop as a robot's would: true history, chunks, latency, success, guards; and they replay."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import ArrayLike

from vla_server_base.contract import Task
from vla_server_base.episodes import EpisodeEnd, EpisodeSettings, EpisodeStart, EpisodeStep, Predicate, play
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import Bounds, Measure, Scene, View
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio
SCENE = Scene(xml=bundled_scene("panda", "tabletop"))
SMALL = View(height=16, width=16)
ONE_CAMERA = dataclasses.replace(EchoAdapter().spec, cameras=EchoAdapter().spec.cameras[:1], proprio_dim=None)
TASK = Task(instruction="reach forward")
DOWN_THEN_UP = np.array([[0, 0, -0.03, 0, 0, 0, 1], [0, 0, 0.03, 0, 0, 0, 1]] * 2, float)


class Scripted:
    """A policy of one chunk, which keeps the windows that it was given."""

    window, cameras, spec = 2, ("primary",), ONE_CAMERA

    def __init__(self, chunk: ArrayLike = DOWN_THEN_UP):
        self.chunk, self.windows, self.steps = np.asarray(chunk, float), [], []

    async def predict(self, window, task, seed, step):
        self.windows.append(window)
        self.steps.append(step)
        return self.chunk


async def played(pool, policy=None, scene=SCENE, **settings):
    settings = EpisodeSettings(**{"max_steps": 6, "view": SMALL, **settings})
    events = [event async for event in play(policy or Scripted(), pool, scene, TASK, settings)]
    assert isinstance(events[0], EpisodeStart)
    assert isinstance(events[-1], EpisodeEnd)
    steps = [event for event in events if isinstance(event, EpisodeStep)]
    assert len(steps) == len(events) - 2
    return events[0], steps, events[-1]


async def test_an_episode_names_the_scenes_parts_and_ends_after_its_steps(pool):
    start, steps, end = await played(pool)
    assert start.names.joints[:2] == ("joint1", "joint2")
    assert "red_cube" in start.names.bodies
    assert start.robot.name == "panda"
    assert [step.index for step in steps] == list(range(6))
    assert (end.reason, end.num_steps, end.success) == ("max_steps", 6, None)
    np.testing.assert_allclose([step.result.state.time_s for step in steps], 0.2 * np.arange(1, 7), atol=1e-9)


async def test_the_policy_sees_the_last_observations_and_which_are_padding(pool):
    policy = Scripted([[0.03, 0, 0, 0, 0, 0, 1]] * 4)
    start, steps, _ = await played(pool, policy, with_images=True)
    seen = [start.view.images["primary"], *(step.view.images["primary"] for step in steps)]
    assert policy.windows[0].timestep_pad_mask.tolist() == [False, True]
    assert all(window.timestep_pad_mask.all() for window in policy.windows[1:])
    for number, window in enumerate(policy.windows[1:], start=1):
        for observation, expected in zip(window.observations, seen[number - 1 : number + 1], strict=True):
            np.testing.assert_array_equal(observation.images["primary"], expected)
    assert (seen[0] != seen[-1]).any(), "the arm moved"


async def test_a_chunk_is_executed_as_far_as_the_horizon_says(pool):
    policy = Scripted()
    _, steps, _ = await played(pool, policy, execution_horizon=4)
    assert policy.steps == [0, 4]
    np.testing.assert_array_equal([step.action for step in steps], DOWN_THEN_UP[[0, 1, 2, 3, 0, 1]])


async def test_history_is_true_where_only_some_steps_are_drawn(pool):
    sparse, dense = Scripted(), Scripted()
    _, steps, _ = await played(pool, sparse, execution_horizon=3)
    await played(pool, dense, execution_horizon=3, with_images=True)
    assert [step.view is None for step in steps] == [True, False, False] * 2
    for few, all_ in zip(sparse.windows, dense.windows, strict=True):
        for one, other in zip(few.observations, all_.observations, strict=True):
            np.testing.assert_array_equal(one.images["primary"], other.images["primary"])


async def test_an_ensemble_averages_what_the_chunks_say_about_a_step(pool):
    policy = Scripted()
    _, steps, _ = await played(pool, policy, ensemble_weight=0.0)
    assert policy.steps == list(range(6))
    np.testing.assert_allclose(steps[1].action, DOWN_THEN_UP[:2].mean(axis=0))


async def test_latency_lets_simulated_time_pass_before_each_new_chunk_and_holds_the_arm(pool):
    _, at_once, _ = await played(pool, execution_horizon=3)
    _, late, _ = await played(pool, execution_horizon=3, latency_s=0.3)
    times = [step.result.state.time_s for step in late]
    np.testing.assert_allclose(np.diff([0, *times]), [0.5, 0.2, 0.2] * 2, atol=1e-9)
    # At rest at first, the arm does the same, only later.
    np.testing.assert_allclose(late[0].result.state.qpos[:7], at_once[0].result.state.qpos[:7], atol=1e-3)


async def test_success_ends_the_episode_early(pool):
    closer = Predicate(measure=Measure(kind="distance", names=("hand", "red_cube")), high=0.40)
    forward = Scripted([[0.03, -0.03, -0.03, 0, 0, 0, 1]])
    _, steps, end = await played(pool, forward, success=(closer,), max_steps=20)
    assert (end.reason, end.success) == ("success", True)
    assert [step.success for step in steps] == [False] * (len(steps) - 1) + [True]
    assert len(steps) < 20
    lifted = Predicate(measure=Measure(kind="height", names=("red_cube",)), low=0.05, since_start=True)
    _, _, end = await played(pool, forward, success=(closer, lifted), max_steps=4)
    assert (end.reason, end.success) == ("max_steps", False)


async def test_a_guard_that_rejects_lets_nothing_out(pool):
    low = Bounds(workspace=np.array([[-1, -1, 0.36], [1, 1, 1]]))
    _, steps, end = await played(pool, Scripted([[0, 0, -0.03, 0, 0, 0, 1]]), guard="reject", bounds=low)
    assert [violation.what for step in end.rejected for violation in step.violations] == ["z"]
    assert end.reason == "rejected"
    assert end.num_steps == len(steps)
    assert not any(step.result.violations for step in steps)


async def test_a_preview_is_what_then_comes_true(pool):
    _, steps, _ = await played(pool, execution_horizon=4, max_steps=4, preview=True)
    preview = steps[0].preview or ()
    assert len(preview) == 4
    for predicted, step in zip(preview, steps, strict=True):
        np.testing.assert_array_equal(predicted.state.qpos, step.result.state.qpos)


async def test_an_episode_replays_bit_for_bit_also_where_its_worker_is_lost_again_and_again(pool):
    _, steps, _ = await played(pool)
    lost = []

    class Losing:
        async def roll_out(self, scene, request):
            for worker in list(pool.workers.all):
                worker.kill()
                lost.append(await worker.ended())
            return await pool.roll_out(scene, request)

    _, again, _ = await played(Losing())
    assert len(lost) >= 7
    for one, other in zip(steps, again, strict=True):
        np.testing.assert_array_equal(one.result.state.qpos, other.result.state.qpos)


async def test_the_arms_home_can_be_any_state(pool):
    start, _, _ = await played(pool, max_steps=1)
    turned = start.state.qpos.copy()
    turned[0] = 0.5
    elsewhere, _, _ = await played(pool, max_steps=1, state=dataclasses.replace(EpisodeSettings().state, qpos=turned))
    assert np.arctan2(*elsewhere.pose.position[1::-1]) == pytest.approx(0.5, abs=1e-3)

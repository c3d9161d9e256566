"""Episodes that are steered in a program: what the policy sees after a change, the simulation's clock, the end."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

import numpy as np
import pytest

from vla_server_base.contract import Task
from vla_server_base.episodes import EpisodeEnd, EpisodeSettings, EpisodeStart, EpisodeStep
from vla_server_base.episodes.events import EpisodeChange, EpisodeEvent
from vla_server_base.episodes.loop import Episode
from vla_server_base.episodes.settings import MAX_CHANGES, Change
from vla_server_base.episodes.steering import Command, Steering
from vla_server_base.errors import EpisodeEnded, RequestError, UnknownName
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import BodyPose, Scene, View
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio
SCENE = Scene(xml=bundled_scene("panda", "tabletop"))
ONE_CAMERA = replace(EchoAdapter().spec, cameras=EchoAdapter().spec.cameras[:1], proprio_dim=None)


class Standing:
    """A policy whose actions move nothing; it keeps the windows and tasks that it was given."""

    window, cameras, spec = 2, ("primary",), ONE_CAMERA

    def __init__(self, first_takes_s: float = 0.0):
        self.windows, self.tasks, self._first_takes_s = [], [], first_takes_s

    async def predict(self, window, task, seed, step):
        if not self.windows:
            await asyncio.sleep(self._first_takes_s)
        self.windows.append(window)
        self.tasks.append(task)
        return np.array([[0, 0, 0, 0, 0, 0, 1.0]] * 4)


def episode(pool, policy=None, **settings) -> Episode:
    settings = {"max_steps": 4, "view": View(height=32, width=32), "with_images": True, **settings}
    return Episode(policy or Standing(), pool, SCENE, Task(instruction="stand"), EpisodeSettings(**settings))


async def next_status(playing: AsyncGenerator[EpisodeEvent, None]) -> str:
    event = await anext(playing)
    assert isinstance(event, EpisodeChange)
    return event.status


def aside(body: str = "red_cube") -> BodyPose:
    return BodyPose(body=body, position=np.array([0.45, 0.0, 0.3]))


async def test_after_bodies_were_put_the_newest_image_is_drawn_again_and_the_window_stays(pool):
    policy = Standing()
    changes = (Change(step=2, bodies=(aside(),)),)
    playing = Steering(episode(pool, policy, max_steps=3, changes=changes)).play()
    events = [event async for event in playing]
    _, first, second, change, *_ = events
    views = [event.view for event in (first, second, change) if not isinstance(event, EpisodeEnd)]
    drawn = [view.images["primary"] for view in views if view is not None]
    seen = [observation.images["primary"] for observation in policy.windows[2].observations]
    assert isinstance(change, EpisodeChange)
    np.testing.assert_array_equal(seen, [drawn[0], drawn[2]])
    assert (seen[1] != drawn[1]).any()


async def test_a_change_goes_to_the_policy_at_once_with_the_window_as_it_is(pool):
    policy = Standing()
    changes = (Change(step=2, instruction="sit"),)
    playing = Steering(episode(pool, policy, execution_horizon=4, changes=changes, with_images=False)).play()
    steps = [event async for event in playing if isinstance(event, EpisodeStep)]
    assert [task.instruction for task in policy.tasks] == ["stand", "sit"]
    seen = [observation.images["primary"] for observation in policy.windows[1].observations]
    np.testing.assert_array_equal(seen, [step.view.images["primary"] for step in steps[:2]])


async def test_a_goal_image_is_replaced_by_a_new_instruction(pool):
    image, policy = np.zeros((8, 8, 3), np.uint8), Standing()
    settings = EpisodeSettings(max_steps=2, changes=(Change(step=1, instruction="sit"),))
    of_image = Episode(policy, pool, SCENE, Task(goal_images={"primary": image}), settings)
    assert [event async for event in Steering(of_image).play()]
    assert [set(task.goal_images) for task in policy.tasks] == [{"primary"}, set()]


async def test_changes_take_effect_before_their_steps_in_their_order(pool):
    changes = tuple(Change(step=step, instruction=name) for step, name in ((2, "c"), (0, "a"), (2, "d"), (9, "never")))
    changed = [
        (event.index, event.change.instruction)
        async for event in Steering(episode(pool, changes=changes)).play()
        if isinstance(event, EpisodeChange)
    ]
    assert changed == [(0, "a"), (2, "c"), (2, "d")]


async def test_a_step_that_comes_late_delays_all_that_follow(pool):
    slow_at_first = episode(pool, Standing(first_takes_s=0.7), max_steps=3)
    playing = Steering(slow_at_first, pace="real_time").play()
    arrivals = [time.monotonic() async for event in playing if isinstance(event, EpisodeStep)]
    assert np.diff(arrivals).min() >= 0.2 - 1e-3, "nothing is caught up with in a burst"


async def test_a_pause_does_not_count_as_simulated_time(pool):
    steering = Steering(episode(pool, max_steps=2), pace="real_time")
    playing = steering.play()
    assert isinstance(await anext(playing), EpisodeStart)
    assert isinstance(await anext(playing), EpisodeStep)
    pausing = asyncio.create_task(steering.apply(Command(status="paused")))
    await asyncio.sleep(0)
    assert await next_status(playing) == "paused"
    paused_at = asyncio.create_task(next_status(playing))
    await asyncio.sleep(0.3)
    going_on = asyncio.create_task(steering.apply(Command(status="running")))
    assert await paused_at == "running"
    resumed_at = time.monotonic()
    assert isinstance(await anext(playing), EpisodeStep)
    assert time.monotonic() - resumed_at >= 0.2 - 1e-3
    await asyncio.gather(pausing, going_on)
    await playing.aclose()


async def test_commands_that_wait_when_the_episode_is_cut_are_refused(pool):
    steering = Steering(episode(pool))
    playing = steering.play()
    assert isinstance(await anext(playing), EpisodeStart)
    waiting = asyncio.create_task(steering.apply(Command(status="paused")))
    await asyncio.sleep(0)
    await playing.aclose()
    with pytest.raises(EpisodeEnded, match="has ended"):
        await waiting
    with pytest.raises(EpisodeEnded):
        await steering.apply(Command(pace="fast"))


async def test_a_refused_change_leaves_the_task_the_predicates_and_the_bodies(pool):
    steered = episode(pool)
    await steered.start()
    with pytest.raises(UnknownName):
        await steered.change(Change(step=0, instruction="sit", bodies=(aside(), aside("cube"))))
    assert (steered.task.instruction, steered.changes) == ("stand", [])
    assert steered.state.time_s == 0
    plain = episode(pool)
    await plain.start()
    np.testing.assert_array_equal(steered.state.qpos, plain.state.qpos)


async def test_an_episode_has_no_more_changes_than_a_request_may_play(pool):
    due = tuple(Change(step=3, instruction=f"due {number}") for number in range(MAX_CHANGES - 1))
    steering = Steering(episode(pool, changes=due), is_paused=True)
    playing = steering.play()
    assert isinstance(await anext(playing), EpisodeStart)
    commands = [asyncio.create_task(steering.apply(Command(change=change))) for change in (due[0], due[1])]
    await asyncio.sleep(0)
    assert await next_status(playing) == "paused"
    refusing = asyncio.ensure_future(anext(playing))
    with pytest.raises(RequestError, match="64 changes"):
        await commands[1]
    refusing.cancel()
    await asyncio.wait([refusing])


async def test_an_episode_that_is_over_ends_before_a_change_that_would_be_due(pool):
    steering = Steering(episode(pool, max_steps=1, changes=(Change(step=1, instruction="sit"),)))
    *_, end = [event async for event in steering.play()]
    assert isinstance(end, EpisodeEnd)
    assert steering.episode.changes == []

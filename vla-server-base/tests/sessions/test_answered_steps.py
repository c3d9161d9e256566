"""The steps that a session has answered: how often they come, and what a watcher receives."""

import asyncio

import numpy as np
import pytest

from vla_server_base.contract import Action, Observation
from vla_server_base.sessions.answered_steps import MAX_BEHIND, AnsweredStep, AnsweredSteps
from vla_server_base.sessions.requests import StepResult


def answered(step: int) -> AnsweredStep:
    action = Action(action=np.zeros(1), action_names=("x",), action_units=("m",), actions=np.zeros((1, 1)))
    result = StepResult(
        action=action,
        dataset=None,
        action_format="standard",
        session_id="arm",
        step=step,
        seed=0,
        sequence=None,
        obs_time=None,
        asked_policy=True,
    )
    return AnsweredStep(observation=Observation(images={}), instruction="go", result=result, total_ms=1.0, time=0.0)


@pytest.fixture
def steps() -> AnsweredSteps:
    return AnsweredSteps()


def received(steps: AnsweredSteps, numbers: range) -> list[int]:
    """What a watcher receives that was too slow for these steps, until the end."""

    async def watch() -> list[int]:
        with steps.watch() as watcher:
            for number in numbers:
                steps.add(answered(number), now=0.0)
            steps.end()
            received = []
            while (step := await watcher.next_step()) is not None:
                received.append(step.result.step)
            return received

    return asyncio.run(watch())


def test_the_rate_is_that_of_the_last_ten_seconds(steps):
    for number in range(40):
        steps.add(answered(number), now=0.5 * number)
    assert steps.per_s(now=19.5) == pytest.approx(2.1)
    assert steps.per_s(now=24.6) == 1.0
    assert steps.per_s(now=40.0) == 0.0


def test_a_watcher_begins_with_the_last_step_and_receives_all_others_until_the_end(steps):
    steps.add(answered(0), now=0.0)
    steps.add(answered(1), now=0.0)
    assert received(steps, range(2, 5)) == [1, 2, 3, 4]


def test_a_slow_watcher_receives_the_newest_steps(steps):
    assert received(steps, range(100)) == list(range(100 - MAX_BEHIND, 100))


def test_a_watcher_that_waits_is_woken_by_a_step_and_by_the_end(steps):
    async def watch():
        with steps.watch() as watcher:
            waiting = asyncio.create_task(watcher.next_step())
            await asyncio.sleep(0)
            steps.add(answered(3), now=0.0)
            step = await waiting
            waiting = asyncio.create_task(watcher.next_step())
            await asyncio.sleep(0)
            steps.end()
            return step.result.step, await waiting

    assert asyncio.run(watch()) == (3, None)


def test_nothing_is_kept_for_a_watcher_that_has_left(steps):
    with steps.watch() as watcher:
        pass
    steps.add(answered(0), now=0.0)
    steps.end()
    assert not watcher.has_ended

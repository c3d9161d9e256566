"""Tasks that nobody awaits are kept until they are done, and what fails of ours is logged."""

import asyncio
import logging

import pytest

from vla_server_base.errors import SceneError
from vla_server_base.scenes.worker_death import WorkerDied
from vla_server_base.scenes.workers import BackgroundTasks

pytestmark = pytest.mark.anyio


async def fail(error: Exception) -> None:
    raise error


async def test_waiting_ends_when_all_are_done_also_those_that_were_started_meanwhile():
    tasks, done = BackgroundTasks(), []

    async def first() -> None:
        await asyncio.sleep(0)
        tasks.start(second())

    async def second() -> None:
        await asyncio.sleep(0)
        done.append("second")

    task = tasks.start(first())
    assert task in tasks
    await tasks.wait()
    assert done == ["second"]
    assert task not in tasks


async def test_cancelling_waits_until_they_have_cleaned_up():
    tasks, cleaned = BackgroundTasks(), []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    tasks.start(endless())
    await asyncio.sleep(0)
    await tasks.cancel()
    assert cleaned == [True]


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [
        (RuntimeError("ours"), True),
        (SceneError("the scene's", hint="-"), False),
        (WorkerDied("killed", "scene"), False),
    ],
)
async def test_a_failure_is_logged_unless_a_scene_or_a_workers_death_is_the_cause(error, is_logged, caplog):
    tasks = BackgroundTasks()
    with caplog.at_level(logging.ERROR):
        task = tasks.start(fail(error))
        await tasks.wait()
    assert task.exception() is error
    assert bool(caplog.records) == is_logged

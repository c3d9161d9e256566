"""While a request of more right is on its way, what has less is not begun: at the door, on threads, on the device."""

import asyncio
import threading
from contextlib import AsyncExitStack

import pytest
from test_engine import asking, num_ready, until, with_the_device_busy
from test_fairness import FLOOD, ROBOT, become

from vla_server_base.fairness import precedence as precedences
from vla_server_base.fairness.claims import PRIORITIES, Claim, Flow, current_claim
from vla_server_base.fairness.precedence import Precedence
from vla_server_base.fairness.threads import FairThreads
from vla_server_base.request_context import Priority, begin_request

EVALUATION = Flow("10.0.0.3", "-")
NUM_MANY = 2


@pytest.fixture
def long(monkeypatch):
    """What waits for a request waits until it is answered, however slow this machine is."""
    monkeypatch.setattr(precedences, "GIVE_WAY_S", 600.0)


def come(flow: Flow, priority: Priority = "robot") -> Claim:
    """Have a request of this client come in this task."""
    begin_request()
    become(flow, priority)
    return current_claim()


async def enter(stack: AsyncExitStack, precedence: Precedence, flow: Flow, priority: Priority = "robot") -> None:
    come(flow, priority)
    await stack.enter_async_context(precedence.entered())


@pytest.mark.parametrize(
    ("priority", "num_own", "other", "num_others", "waits"),
    [
        ("batch", 1, "robot", 1, True),
        ("batch", 1, "human", 1, True),
        ("human", 1, "robot", 1, True),
        ("robot", 1, "batch", 1, False),
        ("human", 1, "batch", 1, False),
        ("robot", 1, "robot", 1, False),
        ("robot", NUM_MANY, "robot", 1, False),
        ("robot", NUM_MANY + 1, "robot", 1, True),
        ("robot", NUM_MANY + 1, "robot", NUM_MANY, True),
        ("robot", NUM_MANY + 1, "robot", NUM_MANY + 1, False),
        ("robot", NUM_MANY + 1, "robot", 0, False),
        ("batch", 0, "robot", 1, False),
    ],
)
def test_work_waits_for_a_more_urgent_class_and_that_of_many_for_that_of_few(
    long, priority, num_own, other, num_others, waits
):
    async def scenario():
        precedence = Precedence(NUM_MANY)
        async with AsyncExitStack() as stack:
            asked = [(FLOOD, priority)] * num_own + [(ROBOT, other)] * num_others
            # Who comes later would wait for who is more urgent.
            for flow, each in sorted(asked, key=lambda it: -PRIORITIES.index(it[1])):
                await enter(stack, precedence, flow, each)
            assert precedence.must_wait(come(FLOOD, priority)) == waits
        assert not precedence.must_wait(come(FLOOD, priority)), "everything has been answered"

    asyncio.run(scenario())


def test_work_waits_only_for_requests_that_have_just_come():
    async def scenario():
        precedence = Precedence()
        async with AsyncExitStack() as stack:
            await enter(stack, precedence, EVALUATION, "batch")
            await enter(stack, precedence, ROBOT)
            await asyncio.sleep(precedences.GIVE_WAY_S)
            assert not precedence.must_wait(come(EVALUATION, "batch"))

    asyncio.run(scenario())


def test_work_may_begin_half_of_the_time_while_others_come_without_end():
    async def scenario():
        precedence, begun = Precedence(), False

        async def come_again_and_again() -> None:
            while not begun:
                async with AsyncExitStack() as stack:
                    await enter(stack, precedence, ROBOT)
                    await asyncio.sleep(0)

        async with AsyncExitStack() as stack:
            await enter(stack, precedence, EVALUATION, "batch")
            robots = [asyncio.create_task(come_again_and_again()) for _ in range(2)]
            await asyncio.sleep(0)
            evaluation = come(EVALUATION, "batch")
            assert precedence.must_wait(evaluation)
            while not begun:
                await asyncio.sleep(0)
                begun = not precedence.must_wait(evaluation)
            await asyncio.wait(robots, timeout=30)

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_request_enters_once_the_one_of_more_right_is_answered(long):
    async def scenario():
        precedence, order = Precedence(), []

        async def ask(flow, priority):
            async with AsyncExitStack() as stack:
                await enter(stack, precedence, flow, priority)
                order.append(priority)

        async with AsyncExitStack() as stack:
            await enter(stack, precedence, ROBOT)
            waiting = [asyncio.create_task(ask(EVALUATION, each)) for each in ("batch", "human")]
            given_up = asyncio.create_task(ask(EVALUATION, "batch"))
            await asyncio.sleep(5 * precedences.LOOK_AGAIN_S)
            assert order == []
            given_up.cancel()
            await ask(FLOOD, "robot")
        await asyncio.gather(*waiting)
        assert order == ["robot", "human", "batch"]
        assert precedence._in_flight == {}, "the one that was given up is not counted for ever"

    asyncio.run(scenario())


def test_nobody_waits_for_a_request_that_takes_long():
    async def scenario():
        precedence = Precedence()
        async with AsyncExitStack() as stack:
            await enter(stack, precedence, ROBOT)
            await asyncio.wait_for(enter(stack, precedence, EVALUATION, "batch"), 30)

    asyncio.run(scenario())


def test_between_two_that_are_let_in_others_arrive(long):
    async def scenario():
        precedence, order = Precedence(), []

        async def ask(number):
            async with AsyncExitStack() as stack:
                await enter(stack, precedence, EVALUATION, "batch")
                order.append(number)

        async def count():
            while len(order) < 8:
                order.append("others")
                await asyncio.sleep(0)

        async with AsyncExitStack() as stack:
            await enter(stack, precedence, ROBOT)
            waiting = [asyncio.create_task(ask(number)) for number in range(3)]
            await asyncio.sleep(0)
        while not order:
            await asyncio.sleep(0)
        await asyncio.gather(*waiting, count())
        first, last = order.index(0), order.index(2)
        assert "others" in order[first:last]

    asyncio.run(scenario())


def test_a_thread_begins_work_once_it_need_not_wait(long):
    async def scenario():
        precedence, done = Precedence(), threading.Event()
        with FairThreads(2, "test", precedence=precedence) as pool:
            async with AsyncExitStack() as stack:
                await enter(stack, precedence, EVALUATION, "batch")
                await enter(stack, precedence, ROBOT)
                come(EVALUATION, "batch")
                waiting = pool.submit(done.set)
                come(ROBOT)
                assert await asyncio.wrap_future(pool.submit(lambda: "done")) == "done"
                await asyncio.sleep(5 * precedences.LOOK_AGAIN_S)
                assert not done.is_set()
            await asyncio.wrap_future(waiting)

    asyncio.run(scenario())


def test_what_was_held_back_together_does_not_wait_for_each_other(long):
    async def scenario():
        precedence, has_run = Precedence(), threading.Event()
        with FairThreads(4, "test", precedence=precedence) as pool:
            async with AsyncExitStack() as stack:
                for flow in (EVALUATION, FLOOD):
                    await enter(stack, precedence, flow, "batch")
                await enter(stack, precedence, ROBOT)
                come(EVALUATION, "batch")
                long_one = pool.submit(has_run.wait, 10)
                come(FLOOD, "batch")
                pool.submit(has_run.set)
                await asyncio.sleep(5 * precedences.LOOK_AGAIN_S)
                assert not has_run.is_set()
            assert await asyncio.wrap_future(long_one)

    asyncio.run(scenario())


def test_work_of_no_request_waits_for_nobody(long):
    async def scenario():
        precedence = Precedence()
        with FairThreads(2, "test", precedence=precedence) as pool:
            async with AsyncExitStack() as stack:
                await enter(stack, precedence, ROBOT)
                become(EVALUATION, "batch")
                assert await asyncio.wrap_future(pool.submit(lambda: "done")) == "done"

    asyncio.run(scenario())


def test_the_device_begins_a_batch_once_it_need_not_wait(long):
    async def asked(engine, flow, priority, seed):
        become(flow, priority)
        return await engine.predict(asking(seed))

    async def scenario():
        precedence = Precedence()
        async with with_the_device_busy(max_batch=1, precedence=precedence) as (engine, adapter, first):
            waiting = asyncio.create_task(asked(engine, EVALUATION, "batch", 1))
            await until(lambda: num_ready(engine) == 1)
            async with AsyncExitStack() as stack:
                await enter(stack, precedence, EVALUATION, "batch")
                await enter(stack, precedence, ROBOT)
                adapter.gate.set()
                await first
                await asyncio.sleep(5 * precedences.LOOK_AGAIN_S)
                assert adapter.batches == [[0]], "the robot's request is still being read"
                await asked(engine, ROBOT, "robot", 2)
            await waiting
        assert adapter.batches == [[0], [2], [1]]

    asyncio.run(scenario())


def test_the_device_takes_what_need_not_wait_before_what_came_first(long):
    async def asked(engine, flow, seed):
        become(flow)
        return await engine.predict(asking(seed))

    async def scenario():
        precedence = Precedence(NUM_MANY)
        async with with_the_device_busy(max_batch=1, precedence=precedence) as (engine, adapter, first):
            async with AsyncExitStack() as stack:
                for _ in range(NUM_MANY + 1):
                    await enter(stack, precedence, FLOOD)
                flood = asyncio.create_task(asked(engine, FLOOD, 1))
                await until(lambda: num_ready(engine) == 1)
                await enter(stack, precedence, ROBOT)
                robot = asyncio.create_task(asked(engine, ROBOT, 2))
                await until(lambda: num_ready(engine) == 2)
                adapter.gate.set()
                await asyncio.gather(first, robot)
            await flood
        assert adapter.batches == [[0], [2], [1]]

    asyncio.run(scenario())

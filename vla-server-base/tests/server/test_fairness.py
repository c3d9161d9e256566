"""Clients take turns, and the sessions of one client: whoever floods the server waits for his own requests."""

import asyncio
import threading

import pytest
from test_engine import asking, gripper, num_ready, until, with_the_device_busy

from vla_server_base.errors import Overloaded
from vla_server_base.fairness import FairQueue, FairThreads, Flow, greediest_beside
from vla_server_base.request_context import current_client, current_session
from vla_server_base.testing.echo import noise

FLOOD, ROBOT = Flow("10.0.0.1", "-"), Flow("10.0.0.2", "-")
ARM = Flow(FLOOD.client, "arm")


def become(flow: Flow) -> None:
    current_client.set(flow.client)
    current_session.set(flow.session)


def drained(queue: FairQueue) -> list:
    return [item for _, item in iter(queue.pop, None)]


def test_clients_take_turns_and_the_sessions_of_a_client_among_themselves():
    queue = FairQueue()
    for number in range(4):
        queue.put(FLOOD, f"flood {number}")
    for number in range(2):
        queue.put(ROBOT, f"robot {number}")
    queue.put(ARM, "arm 0")
    assert drained(queue) == ["flood 0", "robot 0", "arm 0", "robot 1", "flood 1", "flood 2", "flood 3"]
    assert not queue


def test_who_may_not_be_served_keeps_nobody_else():
    queue = FairQueue()
    queue.put(FLOOD, "flood")
    queue.put(ROBOT, "robot")
    assert queue.pop(lambda flow, _: flow != FLOOD) == (ROBOT, "robot")
    assert queue.pop(lambda flow, _: flow != FLOOD) is None
    assert queue.pop() == (FLOOD, "flood")


def test_a_queue_counts_the_items_of_all_flows():
    queue = FairQueue()
    assert (len(queue), bool(queue), queue.pop()) == (0, False, None)
    for flow in (FLOOD, ARM, ROBOT, FLOOD):
        queue.put(flow, flow.session)
    assert (len(queue), bool(queue)) == (4, True)
    assert list(queue) == [(FLOOD, "-"), (FLOOD, "-"), (ARM, "arm"), (ROBOT, "-")]
    queue.pop()
    assert len(queue) == 3


def test_an_item_is_removed_from_its_own_flow_only():
    queue = FairQueue()
    for flow, item in ((FLOOD, "first"), (FLOOD, "second"), (ROBOT, "first")):
        queue.put(flow, item)
    assert queue.remove(FLOOD, "first")
    assert not queue.remove(FLOOD, "first")
    assert not queue.remove(ARM, "second")
    assert list(queue) == [(FLOOD, "second"), (ROBOT, "first")]


def test_a_flow_whose_last_item_is_removed_has_no_turn():
    queue = FairQueue()
    queue.put(FLOOD, "flood")
    queue.put(ROBOT, "robot")
    assert queue.remove(FLOOD, "flood")
    assert queue.pop() == (ROBOT, "robot")
    assert not queue


@pytest.mark.parametrize(
    ("asks", "waiting", "gives_way"),
    [
        (ROBOT, [FLOOD] * 4, FLOOD),
        (FLOOD, [FLOOD] * 4, None),
        (ARM, [FLOOD] * 4, FLOOD),
        (ROBOT, [ROBOT, FLOOD], None),
        (ROBOT, [ROBOT, FLOOD, FLOOD, ARM], FLOOD),
        (FLOOD, [FLOOD, ROBOT, ROBOT, ROBOT], ROBOT),
    ],
)
def test_room_is_made_by_who_has_more_than_the_one_who_asks(asks, waiting, gives_way):
    assert greediest_beside(asks, waiting) == gives_way


@pytest.mark.parametrize("other", [ROBOT, ARM])
def test_a_full_queue_of_one_flow_takes_the_request_of_another_and_serves_it_next(other):
    async def asked(engine, flow, seed):
        become(flow)
        return await engine.predict(asking(seed))

    async def scenario():
        async with with_the_device_busy(max_queue=3) as (engine, adapter, first):
            flood = [asyncio.create_task(asked(engine, FLOOD, seed)) for seed in (1, 2, 3)]
            await until(lambda: num_ready(engine) == 3)
            robot = asyncio.create_task(asked(engine, other, 4))
            with pytest.raises(Overloaded):
                await flood[2]
            await until(lambda: num_ready(engine) == 3)
            adapter.gate.set()
            assert gripper(await robot) == noise(4)
            await asyncio.gather(first, *flood[:2])
        assert adapter.batches[1:].index([4]) <= 1, "after one of the flood's at most"

    asyncio.run(scenario())


def test_one_client_has_half_the_threads_at_a_time():
    gate, started = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        started.release()
        gate.wait(30)

    with FairThreads(4, "test") as threads:
        become(FLOOD)
        long = [threads.submit(wait) for _ in range(8)]
        for _ in range(2):
            assert started.acquire(timeout=30)
        become(ROBOT)
        assert threads.submit(lambda: "done").result(timeout=30) == "done"
        assert not started.acquire(blocking=False), "no third of the flood's has begun"
        gate.set()
        for future in long:
            future.result(timeout=30)


def test_what_is_cancelled_while_it_waits_is_not_done_and_an_error_is_the_callers():
    gate = threading.Event()
    with FairThreads(1, "test") as threads:
        busy, failing, cancelled = threads.submit(gate.wait, 30), threads.submit(int, "x"), threads.submit(print)
        assert cancelled.cancel()
        gate.set()
        assert busy.result(timeout=30)
        with pytest.raises(ValueError, match="invalid literal"):
            failing.result(timeout=30)

"""A robot comes before an evaluation, what is due first before the rest; a flood waits for itself."""

import asyncio
import itertools
import threading

import pytest
from test_engine import asking, gripper, num_ready, until, with_the_device_busy

from vla_server_base.errors import DeadlinePassed, Overloaded, RequestError
from vla_server_base.fairness.claims import (
    SHARE,
    Claim,
    Flow,
    current_claim,
    displaced_by,
    greediest_beside,
    lowered_priority,
)
from vla_server_base.fairness.queue import FairQueue
from vla_server_base.fairness.threads import FairThreads
from vla_server_base.request_context import Priority, current_client, current_priority, current_session
from vla_server_base.sessions.deadline import within_deadline
from vla_server_base.testing.echo import noise

FLOOD, ROBOT = Flow("10.0.0.1", "-"), Flow("10.0.0.2", "-")
ARM = Flow(FLOOD.client, "arm")
NUMBERS = itertools.count()


def of(flow: Flow, priority: Priority = "robot", due_at: float | None = None) -> Claim:
    """A claim that is due after those made before it, or at a time."""
    return Claim(flow=flow, priority=priority, due_at=next(NUMBERS) if due_at is None else due_at)


def become(flow: Flow, priority: Priority = "robot") -> None:
    current_client.set(flow.client)
    current_session.set(flow.session)
    current_priority.set(priority)


def drained(queue: FairQueue) -> list:
    return [item for _, item in iter(queue.pop, None)]


def filled(*items: tuple[Claim, str]) -> FairQueue:
    queue = FairQueue()
    for claim, item in items:
        queue.put(claim, item)
    return queue


def test_clients_take_turns_and_the_sessions_of_a_client_among_themselves():
    queue = filled(
        *((of(FLOOD), f"flood {number}") for number in range(4)),
        *((of(ROBOT), f"robot {number}") for number in range(2)),
        (of(ARM), "arm 0"),
    )
    assert drained(queue) == ["flood 0", "robot 0", "robot 1", "arm 0", "flood 1", "flood 2", "flood 3"]
    assert not queue


def test_the_more_urgent_class_comes_first():
    queue = filled((of(FLOOD, "batch"), "evaluation"), (of(ARM, "human"), "person"), (of(ROBOT), "robot"))
    assert drained(queue) == ["robot", "person", "evaluation"]


@pytest.mark.parametrize("priority", ["human", "batch"])
def test_a_less_urgent_class_has_its_share_of_the_turns(priority):
    queue = filled(
        *((of(FLOOD), "robot") for _ in range(3 * SHARE)), (of(ROBOT, priority), "x"), (of(ROBOT, priority), "y")
    )
    order = drained(queue)
    assert (order.index("x"), order.index("y")) == (SHARE - 1, 2 * SHARE - 1)


def test_a_class_that_did_not_wait_has_no_turns_to_catch_up_on():
    queue = filled(*((of(FLOOD), "robot") for _ in range(3 * SHARE)))
    for _ in range(SHARE):
        queue.pop()
    queue.put(of(ROBOT, "batch"), "late")
    assert drained(queue).index("late") == SHARE - 1


def test_within_a_round_of_turns_the_client_that_is_due_first_comes_first():
    late, soon = Flow("late", "-"), Flow("soon", "-")
    queue = filled((of(late, due_at=9), "late"), (of(FLOOD, due_at=5), "flood"), (of(soon, due_at=1), "soon"))
    assert drained(queue) == ["soon", "flood", "late"]


def test_short_deadlines_buy_no_more_turns_than_others_have():
    queue = filled(
        *((of(FLOOD, due_at=0), f"flood {number}") for number in range(4)),
        *((of(ROBOT, due_at=100), f"robot {number}") for number in range(2)),
    )
    assert drained(queue)[:4] == ["flood 0", "robot 0", "flood 1", "robot 1"]


def test_a_client_that_comes_back_within_a_round_waits_for_the_others():
    queue = filled((of(FLOOD, due_at=1), "flood"), (of(ROBOT, due_at=2), "robot"))
    assert queue.pop()[1] == "flood"
    queue.put(of(FLOOD, due_at=0), "flood again")
    assert drained(queue) == ["robot", "flood again"]


def test_within_a_flow_what_is_due_first_comes_first():
    queue = filled((of(ROBOT, due_at=3), "third"), (of(ROBOT, due_at=1), "first"), (of(ROBOT, due_at=2), "second"))
    assert drained(queue) == ["first", "second", "third"]


def test_who_may_not_be_served_keeps_nobody_else():
    queue = filled((of(FLOOD), "flood"), (of(ROBOT), "robot"))
    assert queue.pop(lambda claim, _: claim.flow != FLOOD)[1] == "robot"
    assert queue.pop(lambda claim, _: claim.flow != FLOOD) is None
    assert queue.pop()[1] == "flood"


def test_a_queue_counts_the_items_of_all_flows():
    queue = FairQueue()
    assert (len(queue), bool(queue), queue.pop()) == (0, False, None)
    for claim in (of(FLOOD, "batch"), of(ARM), of(ROBOT), of(FLOOD, "batch")):
        queue.put(claim, claim.flow.session)
    assert (len(queue), bool(queue)) == (4, True)
    assert [(claim.flow, item) for claim, item in queue] == [(ARM, "arm"), (ROBOT, "-"), (FLOOD, "-"), (FLOOD, "-")]
    queue.pop()
    assert len(queue) == 3


def test_an_item_is_removed_from_its_own_flow_only():
    first, second, other = of(FLOOD), of(FLOOD), of(ROBOT)
    queue = filled((first, "first"), (second, "second"), (other, "first"))
    assert queue.remove(first, "first")
    assert not queue.remove(first, "first")
    assert not queue.remove(of(ARM), "second")
    assert list(queue) == [(second, "second"), (other, "first")]


def test_a_flow_whose_last_item_is_removed_has_no_turn():
    flood = of(FLOOD)
    queue = filled((flood, "flood"), (of(ROBOT), "robot"))
    assert queue.remove(flood, "flood")
    assert queue.pop()[1] == "robot"
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


def test_an_evaluation_makes_room_for_a_robot_and_for_a_person_and_gives_up_what_is_due_last():
    claims = [of(ROBOT), of(FLOOD, "batch", due_at=1), of(FLOOD, "batch", due_at=3), of(FLOOD, "batch", due_at=2)]
    assert displaced_by(of(ROBOT), claims, 4) is claims[2]
    assert displaced_by(of(ARM, "human"), claims, 4) is claims[2]
    assert displaced_by(of(ARM, "batch"), claims, 4) is claims[2], "of its client's own"
    assert displaced_by(of(FLOOD, "batch"), claims, 4) is None


def test_a_less_urgent_class_keeps_its_share_of_the_places_and_gets_it():
    robots, evaluation = [of(FLOOD) for _ in range(2 * SHARE - 2)], [of(ROBOT, "batch") for _ in range(2)]
    assert displaced_by(of(ARM), [*robots, *evaluation], 2 * SHARE) is robots[-1]
    assert displaced_by(of(ROBOT, "batch"), robots * 2, 2 * SHARE) is robots[-1]


@pytest.mark.parametrize(
    ("header", "of_key", "priority"),
    [
        (None, "human", "human"),
        ("batch", "robot", "batch"),
        (" Human ", "robot", "human"),
        ("robot", "batch", "batch"),
    ],
)
def test_a_header_only_lowers_the_class_of_a_key(header, of_key, priority):
    assert lowered_priority(header, of_key) == priority


def test_an_unknown_class_is_refused_with_those_that_there_are():
    with pytest.raises(RequestError, match="X-Priority is 'urgent', expected robot, human or batch"):
        lowered_priority("urgent")


@pytest.mark.parametrize("deadline_ms", [50.0, 3_600_000.0])
def test_a_request_is_due_at_its_deadline_or_after_a_second(deadline_ms):
    async def claimed():
        return current_claim()

    async def scenario():
        without = current_claim()
        return without, await within_deadline(claimed(), deadline_ms)

    without, with_deadline = asyncio.run(scenario())
    assert (with_deadline.due_at < without.due_at) == (deadline_ms < 1000)
    assert (without.deadline, with_deadline.deadline is None) == (None, False)


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


def test_a_robots_request_overtakes_those_of_an_evaluation_that_wait():
    async def asked(engine, flow, seed, priority):
        become(flow, priority)
        return await engine.predict(asking(seed))

    async def scenario():
        async with with_the_device_busy(max_batch=1) as (engine, adapter, first):
            flood = [asyncio.create_task(asked(engine, FLOOD, seed, "batch")) for seed in (1, 2, 3)]
            await until(lambda: num_ready(engine) == 3)
            robot = asyncio.create_task(asked(engine, ROBOT, 4, "robot"))
            await until(lambda: num_ready(engine) == 4)
            adapter.gate.set()
            await asyncio.gather(first, robot, *flood)
        assert adapter.batches == [[0], [4], [1], [2], [3]]

    asyncio.run(scenario())


def test_what_is_due_first_is_answered_first_and_what_is_too_late_not_at_all():
    async def asked(engine, name, seed, deadline_ms):
        become(Flow(name, "-"))
        return await within_deadline(engine.predict(asking(seed)), deadline_ms)

    async def scenario():
        async with with_the_device_busy(max_batch=1) as (engine, adapter, first):
            deadlines = {1: None, 2: 900.0, 3: 1.0, 4: 500.0}
            tasks = {seed: asyncio.create_task(asked(engine, str(seed), seed, ms)) for seed, ms in deadlines.items()}
            with pytest.raises(DeadlinePassed):
                await tasks.pop(3)
            await until(lambda: num_ready(engine) == 3)
            adapter.gate.set()
            await asyncio.gather(first, *tasks.values())
        assert adapter.batches == [[0], [4], [2], [1]]

    asyncio.run(scenario())


def test_work_that_is_less_urgent_than_a_robots_leaves_it_half_the_threads():
    gate, started = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        started.release()
        gate.wait(30)

    with FairThreads(4, "test") as threads:
        for number in range(8):
            become(Flow(f"evaluation {number}", "-"), "batch")
            threads.submit(wait)
        for _ in range(2):
            assert started.acquire(timeout=30)
        become(ROBOT)
        assert threads.submit(lambda: "done").result(timeout=30) == "done"
        assert not started.acquire(blocking=False), "no third evaluation's has begun"
        gate.set()


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

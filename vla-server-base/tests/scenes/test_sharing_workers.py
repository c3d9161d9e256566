"""Which clients share a worker, and whose turn it is to get one."""

import asyncio
from contextvars import copy_context

import pytest
from plain_scene import PLAIN_XML, render, running, until
from test_lost_workers import LONG_XML

from vla_server_base.errors import Overloaded, Unavailable
from vla_server_base.request_context import Priority, current_client, current_priority
from vla_server_base.scenes.library import bundled_keys, bundled_scene
from vla_server_base.scenes.worker_queue import WorkerQueue, WorkerRequest

pytestmark = pytest.mark.anyio

BUNDLED = bundled_scene("panda", "tabletop")


async def render_for(pool, client: str, xml: str):
    current_client.set(client)
    return await render(pool, xml, height=16, width=16)


def scene_of(client: str, number: int = 0) -> str:
    return f"{PLAIN_XML}<!-- {client} {number} -->"


async def test_scenes_of_different_clients_are_never_compiled_in_one_process():
    async with running(renderer="raycast", scene_workers=2, scene_processes=6) as pool:
        asked = [render_for(pool, f"client {i % 5}", scene_of(f"client {i % 5}", i // 10)) for i in range(40)]
        drawn = await asyncio.gather(*(asyncio.create_task(each) for each in asked))
        assert all(each.view.images for each in drawn)
        assert all(len(worker.clients) <= 1 for worker in pool.workers.all)
        assert len(pool.pids) <= 6


async def test_a_client_keeps_its_worker_while_others_come_and_go():
    async with running(renderer="raycast", scene_workers=1, scene_processes=6) as pool:
        for number in range(4):
            for client in ("a", "b", "c"):
                reply = await asyncio.create_task(render_for(pool, client, scene_of(client)))
                assert (reply.cost.compile_ms == 0) == (number > 0)


async def test_bundled_scenes_are_shared_by_everybody():
    async with running(renderer="raycast", scene_workers=1) as pool:
        await until(lambda: len(pool.workers.idle) == 2)
        pids = pool.pids
        for client in ("a", "b", "c", "d"):
            reply = await asyncio.create_task(render_for(pool, client, BUNDLED))
            assert (reply.cost.compile_ms > 0) == (client == "a")
        assert pool.pids == pids


async def test_one_scene_that_several_clients_send_is_compiled_once():
    async with running(renderer="raycast", scene_workers=1) as pool:
        times = [(await asyncio.create_task(render_for(pool, who, PLAIN_XML))).cost.compile_ms for who in "abc"]
        assert times[1:] == [0, 0]


async def test_who_used_a_bundled_scene_is_apart_from_a_strangers_scene_too():
    async with running(renderer="raycast", scene_workers=1) as pool:
        for client, xml in (("a", BUNDLED), ("b", scene_of("b")), ("a", BUNDLED), ("b", BUNDLED), ("c", scene_of("c"))):
            await asyncio.create_task(render_for(pool, client, xml))
        strangers = [worker for worker in pool.workers.all if worker.compiled - bundled_keys()]
        assert sorted(sorted(worker.clients) for worker in strangers) == [["b"], ["c"]]


async def test_a_worker_that_nobody_has_had_is_ready_for_the_next_client_until_there_are_as_many_as_may_be():
    async with running(renderer="raycast", scene_workers=1, scene_processes=5) as pool:
        for client in "abcd":
            await asyncio.create_task(render_for(pool, client, scene_of(client)))
            await until(lambda: any(not worker.clients for worker in pool.workers.idle))
        full = pool.pids
        for client in "abcde":
            await asyncio.create_task(render_for(pool, client, scene_of(client)))
        assert pool.pids == full


async def test_the_worker_that_was_idle_for_longest_makes_room_for_a_new_client():
    async with running(renderer="raycast", scene_workers=1, scene_processes=3) as pool:
        for client in "abcdef":
            assert (await asyncio.create_task(render_for(pool, client, scene_of(client)))).view.images
            await until(lambda: len(pool.pids) <= 3)
        assert {client for worker in pool.workers.all for client in worker.clients} == set("def")


async def test_a_new_client_is_answered_where_no_process_can_be_started(monkeypatch):
    async with running(renderer="raycast", scene_workers=1) as pool:
        await until(lambda: len(pool.workers.idle) == 2)
        monkeypatch.setattr("sys.executable", "/bin/false")
        for client in "ab":
            await asyncio.create_task(render_for(pool, client, scene_of(client)))
        with pytest.raises(Unavailable, match="no process can be started"):
            await asyncio.create_task(render_for(pool, "c", scene_of("c")))
        assert (await asyncio.create_task(render_for(pool, "a", scene_of("a")))).view.images
        monkeypatch.undo()
        await until(lambda: len(pool.workers.idle) == 3)
        assert (await asyncio.create_task(render_for(pool, "c", scene_of("c")))).view.images


async def test_one_clients_long_scenes_leave_another_its_worker():
    async with running(renderer="raycast", scene_workers=1, scene_timeout_s=60) as pool:
        flood = [asyncio.create_task(render_for(pool, "flood", LONG_XML + f"<!-- {i} -->")) for i in range(3)]
        await until(lambda: pool.workers.busy)
        for number in range(3):
            assert (await asyncio.create_task(render_for(pool, "robot", scene_of("robot", number)))).view.images
        assert not any(each.done() for each in flood[1:])
        await asyncio.gather(*flood)


def request_of(client: str, priority: Priority = "robot", *, is_retry: bool = False) -> WorkerRequest:
    def make() -> WorkerRequest:
        current_client.set(client)
        current_priority.set(priority)
        return WorkerRequest(key="", is_retry=is_retry)

    return copy_context().run(make)


def put(queue: WorkerQueue, clients: str, priority: Priority = "robot") -> list[WorkerRequest]:
    requests = [request_of(client, priority) for client in clients]
    for request in requests:
        queue.put(request)
    return requests


def served(queue: WorkerQueue) -> str:
    """Return the clients in the order in which they are served, until nobody waits."""
    return "".join(request.client for request in iter(lambda: queue.pop(lambda _: True), None))


async def test_clients_are_served_in_turn():
    queue = WorkerQueue(10)
    put(queue, "aaaabcb")
    assert served(queue) == "abcabaa"


async def test_a_robots_scene_comes_before_an_evaluations_and_a_persons():
    queue = WorkerQueue(10)
    put(queue, "ee", "batch")
    put(queue, "h", "human")
    put(queue, "r")
    assert served(queue) == "rhee"


async def test_a_queue_full_of_an_evaluations_scenes_takes_a_robots():
    queue = WorkerQueue(4)
    *_, last = put(queue, "eeee", "batch")
    put(queue, "r")
    with pytest.raises(Overloaded):
        last.worker.result()
    with pytest.raises(Overloaded):
        put(queue, "e", "batch")
    assert served(queue) == "reee"


async def test_a_client_that_fills_the_queue_gives_up_its_last_request_for_another():
    queue = WorkerQueue(4)
    *_, last = put(queue, "aaaa")
    put(queue, "b")
    with pytest.raises(Overloaded):
        last.worker.result()
    with pytest.raises(Overloaded):
        put(queue, "a")
    assert served(queue) == "abaa"


async def test_a_retry_comes_first_and_is_never_refused():
    queue = WorkerQueue(2)
    put(queue, "ab")
    queue.put(request_of("c", is_retry=True))
    assert served(queue) == "cab"


async def test_a_request_that_left_is_not_served():
    queue = WorkerQueue(3)
    first, _, third = put(queue, "aab")
    assert queue.remove(first)
    assert queue.remove(third)
    assert not queue.remove(third)
    assert served(queue) == "a"


async def test_a_client_with_nothing_to_serve_does_not_block_the_next():
    queue = WorkerQueue(2)
    put(queue, "ab")
    assert queue.pop(lambda request: request.client == "b").client == "b"
    assert queue.pop(lambda request: request.client == "b") is None

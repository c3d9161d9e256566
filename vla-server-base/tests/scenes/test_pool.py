"""Workers come and go; whoever waits is answered, and nobody else notices."""

import asyncio
import gc
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from plain_scene import PLAIN_XML, assert_serves, children, render, running, until

from vla_server_base.config import ServerConfig
from vla_server_base.errors import Overloaded, SceneTimeout, Unavailable
from vla_server_base.scenes.messages import RenderReply
from vla_server_base.scenes.pool import ScenePool

pytestmark = pytest.mark.anyio

# Half a second of work for each mesh, of a kind that nothing refuses.
SLOW_XML = f"""
<mujoco>
  <asset>{"".join(f'<mesh name="m{i}" builtin="supersphere" params="190 1 {i + 1}"/>' for i in range(40))}</asset>
  <worldbody>
    {"".join(f'<geom type="mesh" mesh="m{i}"/>' for i in range(40))}
    <camera pos="0 0 3"/>
  </worldbody>
</mujoco>
"""


def pool_is_full(pool) -> bool:
    return len(pool.workers.idle) == 2


def is_quiet(pool) -> bool:
    """Whether all workers are idle and none starts."""
    return len(pool.workers.idle) >= 2 and not pool.workers.busy and not pool.workers._num_launching


async def test_the_same_scene_is_compiled_once(pool):
    xml = PLAIN_XML.replace("1.5", "1.50001")
    times = [(await render(pool, xml)).cost.compile_ms for _ in range(4)]
    assert times[0] > 0
    assert times[1:] == [0, 0, 0]


async def test_assets_are_part_of_what_a_scene_is(pool):
    xml = """<mujoco><asset><mesh name="m" file="m.obj"/></asset>
        <worldbody><geom type="mesh" mesh="m"/><camera pos="0 0 3"/></worldbody></mujoco>"""
    images = []
    for size in (0.2, 0.8):
        corners = [(0, 0, 0), (size, 0, 0), (0, size, 0), (0, 0, size)]
        mesh = "".join(f"v {x} {y} {z}\n" for x, y, z in corners) + "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
        images.append((await render(pool, xml, {"m.obj": mesh.encode()})).view.images["primary"])
    assert (images[1] > 0).sum() > 4 * (images[0] > 0).sum()


async def test_a_worker_keeps_only_the_last_scenes(pool):
    for i in range(40):
        assert (await render(pool, PLAIN_XML + f"<!-- {i} -->", height=16, width=16)).cost.compile_ms > 0
    assert (await render(pool, PLAIN_XML + "<!-- 39 -->", height=16, width=16)).cost.compile_ms == 0
    assert (await render(pool, PLAIN_XML + "<!-- 0 -->", height=16, width=16)).cost.compile_ms > 0


async def test_a_worker_killed_while_idle_costs_no_request():
    before = children()
    async with running(renderer="raycast", scene_workers=1) as pool:
        await until(lambda: pool_is_full(pool))
        victims = children() - before
        for worker in victims:
            os.kill(worker, signal.SIGKILL)
        await until(lambda: len(children() - before - victims) == 2)
        await assert_serves(pool)


async def test_a_slow_scene_times_out_and_its_neighbours_do_not_notice():
    async with running(renderer="raycast", scene_workers=2, scene_timeout_s=1.5) as pool:
        await until(lambda: len(pool.workers.idle) == 3)
        start = time.monotonic()
        slow = asyncio.create_task(render(pool, SLOW_XML))
        served = 0
        while not slow.done():
            await assert_serves(pool)
            served += 1
        with pytest.raises(SceneTimeout, match=r"more than 1\.5 s"):
            await slow
        assert time.monotonic() - start < 10
        assert served > 1
        await assert_serves(pool)


async def test_the_spare_worker_serves_when_one_is_lost(monkeypatch):
    before = children()
    async with running(renderer="raycast", scene_workers=1, scene_timeout_s=1) as pool:
        await until(lambda: pool_is_full(pool))
        monkeypatch.setattr("sys.executable", "/bin/false")
        with pytest.raises(SceneTimeout):
            await render(pool, SLOW_XML)
        await assert_serves(pool)
        monkeypatch.undo()
        await until(lambda: pool_is_full(pool))
    assert children() == before


async def test_who_waits_is_answered_when_no_worker_can_be_started(monkeypatch):
    async with running(renderer="raycast", scene_workers=1, scene_timeout_s=1) as pool:
        await until(lambda: pool_is_full(pool))
        monkeypatch.setattr("sys.executable", "/bin/false")
        requests = [asyncio.create_task(render(pool, SLOW_XML)) for _ in range(3)]
        outcomes = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), 20)
        assert [type(outcome) for outcome in outcomes] == [SceneTimeout, SceneTimeout, Unavailable]
        with pytest.raises(Unavailable, match="no process can be started"):
            await asyncio.wait_for(render(pool), 20)
        monkeypatch.undo()
        await until(lambda: pool.workers.idle)
        await assert_serves(pool)


async def test_a_request_that_was_cancelled_leaves_its_worker_usable():
    async with running(renderer="raycast", scene_workers=1, scene_timeout_s=2) as pool:
        for _ in range(3):
            request = asyncio.create_task(render(pool, SLOW_XML))
            await asyncio.sleep(0.2)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        await asyncio.wait_for(assert_serves(pool), 15)


async def test_requests_cancelled_while_they_wait_leave_no_trace(pool):
    requests = [asyncio.create_task(render(pool, PLAIN_XML + f"<!-- w{i} -->")) for i in range(20)]
    for i, request in enumerate(requests):
        await asyncio.sleep(0.002)
        if i % 3:
            request.cancel()
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    answered = [outcome for outcome in outcomes if not isinstance(outcome, asyncio.CancelledError)]
    assert all(not isinstance(outcome, BaseException) and outcome.view.images for outcome in answered)
    assert len(answered) >= 7
    await assert_serves(pool)


async def test_more_waiting_than_the_limit_is_refused():
    async with running(renderer="raycast", scene_workers=1, max_queue=2) as pool:
        requests = [asyncio.create_task(render(pool, PLAIN_XML + f"<!-- q{i} -->")) for i in range(8)]
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
        assert len(refused) == 5, "one is drawn and two wait"
        assert sum(isinstance(outcome, RenderReply) for outcome in outcomes) == 3


async def test_the_pool_runs_on_uvloop_too():
    program = """
import asyncio, uvloop
from plain_scene import assert_serves, children, render, running
from test_pool import SLOW_XML
from vla_server_base.errors import SceneTimeout
async def main():
    async with running(renderer="raycast", scene_workers=1, scene_timeout_s=1) as pool:
        await assert_serves(pool)
        try:
            await render(pool, SLOW_XML)
        except SceneTimeout:
            await assert_serves(pool)
            print("served")
    print(len(children()), "left")
loop = uvloop.new_event_loop()
loop.run_until_complete(main())
"""
    here = str(Path(__file__).parent)
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", program, cwd=here, stdout=pipe)
    output, _ = await server.communicate()
    assert output.decode().split("\n")[:2] == ["served", "0 left"]


async def test_closing_answers_who_waits_and_leaves_no_process_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = children()
    async with running(renderer="raycast", scene_workers=1) as pool:
        requests = [asyncio.create_task(render(pool, SLOW_XML)) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert len(children() - before) == 2
        start = time.monotonic()
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert time.monotonic() - start < 2
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert children() == before
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Unavailable):
        await render(pool)


async def test_closing_in_the_moment_when_a_job_is_done_ends():
    pool = ScenePool(ServerConfig())
    job = pool._jobs.start(asyncio.sleep(0))
    while not job.done():
        await asyncio.sleep(0)
    assert job in pool._jobs, "nobody has been told of its end yet"
    await pool.close()


async def test_a_worker_ends_with_the_server_even_in_the_middle_of_work(tmp_path):
    program = f"""
import asyncio, os
from plain_scene import children, render, running, until
from test_pool import SLOW_XML
async def main():
    async with running(renderer="raycast", scene_workers=1) as pool:
        asyncio.ensure_future(render(pool, SLOW_XML))
        await until(lambda: pool.workers.busy and len(children()) == 2, timeout_s=60)
        open({str(tmp_path / "workers")!r}, "w").write(" ".join(map(str, children())))
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    here = str(Path(__file__).parent)
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=here)
    assert await server.wait() == -signal.SIGKILL
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 2
    await until(lambda: not any(is_running(worker) for worker in workers), timeout_s=10)


async def test_two_hundred_images_leak_neither_memory_nor_files(pools):
    # A worker that starts meanwhile, or draws for the first time, would count as a leak.
    await until(lambda: all(map(is_quiet, pools.values())), timeout_s=60)
    for pool in pools.values():
        sizes = []
        for i in range(240):
            await render(pool, PLAIN_XML + "<!-- leak -->" * (i // 5 % 12))
            if i in (119, 239):
                sizes.append(footprint(pool))
        (memory, files), (memory_after, files_after) = sizes
        assert memory_after - memory < 8_000, "kB, over 120 images and 24 compiled scenes"
        assert files_after <= files


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def footprint(pool) -> tuple[int, int]:
    """Return resident kilobytes of a pool's workers, and open files of them and of this process."""
    gc.collect()  # what earlier tests have left may hold files
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in pool.pids]
    memory = sum(int(status.partition("VmRSS:")[2].split()[0]) for status in statuses)
    # What watches the workers' memory opens a file for a moment.
    return memory, min(num_files(*pool.pids, os.getpid()) for _ in range(5))


def num_files(*pids: int) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)

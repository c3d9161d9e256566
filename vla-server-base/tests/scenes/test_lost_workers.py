"""A worker that is lost costs a little time; a scene that workers die of costs two of them."""

import asyncio
import os
import signal

import numpy as np
import pytest
from plain_scene import assert_serves, render, running, until

from vla_server_base.errors import SceneCrashed, SceneTooLarge, Unavailable
from vla_server_base.request_context import current_client
from vla_server_base.scenes import machine_memory
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import RolloutRequest, Scene, SceneState

pytestmark = pytest.mark.anyio

# A second or two of work, of a kind that nothing refuses.
LONG_XML = """
<mujoco>
  <asset>{meshes}</asset>
  <worldbody><light pos="0 0 3"/>{geoms}<camera pos="0 0 3"/></worldbody>
</mujoco>
""".format(
    meshes="".join(f'<mesh name="m{i}" builtin="supersphere" params="190 1 {i + 1}"/>' for i in range(4)),
    geoms="".join(f'<geom type="mesh" mesh="m{i}"/>' for i in range(4)),
)


async def end_busy(pool, number: signal.Signals, times: int = 1) -> None:
    """Send a signal to the worker that is at work; then to the one that is after it."""
    ended = set()
    for _ in range(times):
        await until(lambda: {worker.pid for worker in pool.workers.busy} - ended)
        await asyncio.sleep(0.1)
        (worker,) = pool.workers.busy
        os.kill(worker.pid, number)
        ended.add(worker.pid)


@pytest.fixture(scope="module")
async def lone_pool():
    """One worker and its spare."""
    async with running(renderer="raycast", scene_workers=1, scene_timeout_s=30) as pool:
        yield pool


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT])
async def test_what_a_lost_worker_was_doing_is_done_by_another(lone_pool, number):
    xml = LONG_XML + f"<!-- {number.name} -->"
    drawing = asyncio.create_task(render(lone_pool, xml))
    await end_busy(lone_pool, number)
    drawn = (await drawing).view.images["primary"]
    np.testing.assert_array_equal(drawn, (await render(lone_pool, xml)).view.images["primary"])


async def test_a_simulation_goes_on_to_the_same_bits_when_its_worker_is_lost(lone_pool):
    scene = Scene(xml=bundled_scene("panda", "tabletop"))
    request = RolloutRequest(start=SceneState(), actions=np.full((30, 7), 0.02))
    whole = await lone_pool.roll_out(scene, request)
    going = asyncio.create_task(lone_pool.roll_out(scene, request))
    await until(lambda: lone_pool.workers.busy)
    os.kill(next(iter(lone_pool.workers.busy)).pid, signal.SIGKILL)
    np.testing.assert_array_equal((await going).end.physics, whole.end.physics)


async def test_who_loses_two_workers_to_the_outside_is_told_that_the_scene_is_not_to_blame(lone_pool):
    drawing = asyncio.create_task(render(lone_pool, LONG_XML))
    await end_busy(lone_pool, signal.SIGKILL, times=2)
    with pytest.raises(Unavailable, match="ended by SIGKILL, and its worker was ended by SIGKILL") as caught:
        await drawing
    assert caught.value.status == 503
    assert "not to blame" in caught.value.hint
    assert (await render(lone_pool, LONG_XML)).view.images, "it may be sent again at once"


async def test_a_scene_that_two_workers_died_of_costs_no_third(lone_pool):
    xml = LONG_XML + "<!-- deadly -->"
    drawing = asyncio.create_task(render(lone_pool, xml))
    await end_busy(lone_pool, signal.SIGSEGV, times=2)
    with pytest.raises(SceneCrashed, match="SIGSEGV"):
        await drawing
    pids = lone_pool.pids
    for _ in range(20):
        with pytest.raises(SceneCrashed, match="SIGSEGV") as caught:
            await render(lone_pool, xml)
        assert "has cost 2 workers and is not tried again for" in caught.value.hint
    assert pids <= lone_pool.pids
    await assert_serves(lone_pool)
    current_client.set("another")
    assert (await render(lone_pool, xml)).view.images, "it was not this client's that did it"


async def test_a_scene_that_fills_memory_is_refused_and_what_was_held_gives_way_first():
    large = '<mujoco><asset><texture name="t{0}" type="cube" builtin="flat" width="{1}" height="{1}"/></asset>' + (
        '<worldbody><camera pos="0 0 3"/><geom size=".1"/></worldbody></mujoco>'
    )
    async with running(renderer="raycast", scene_workers=1, scene_memory_mb=200) as pool:
        for number in range(6):
            assert (await render(pool, large.format(number, 1500))).view.images, "40 MB each"
        with pytest.raises(SceneTooLarge, match="memory") as caught:
            await render(pool, large.format("", 4096))
        assert (caught.value.status, caught.value.code) == (422, "scene_crashed")
        await assert_serves(pool)


async def test_memory_that_is_reserved_and_not_touched_is_no_reason_to_refuse():
    reserves = '<mujoco><size memory="1000M"/><worldbody><camera/><geom size=".{0}"/></worldbody></mujoco>'
    async with running(renderer="raycast", scene_workers=1, scene_memory_mb=1000) as pool:
        pids = pool.pids
        for number in range(1, 13):
            assert (await render(pool, reserves.format(number))).view.images
        assert pids <= pool.pids, "no worker was lost"


def test_a_container_has_the_memory_that_its_groups_leave_it(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_memory, "CGROUPS", tmp_path)
    whole = machine_memory.machine_memory_mb()
    group = tmp_path / "slurm" / "job_7"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text(f"{500 * 2**20}\n")
    (tmp_path / "membership").write_text("12:cpuset:/\n0::/slurm/job_7\n")
    assert list(machine_memory._limits(tmp_path / "membership")) == [500 * 2**20]
    assert whole * 2**20 <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

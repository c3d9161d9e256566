"""Scene workers on a cluster answer, and are confined and limited, as those of a server's own machine."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.errors import RendererUnavailable, SceneTimeout, SceneTooLarge
from vla_server_base.fleet import scene_worker
from vla_server_base.fleet.scene_worker import RaySceneWorker
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import RenderRequest, RolloutRequest, Scene, SceneState, View
from vla_server_base.scenes.pool import ScenePool

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("connected_cluster")]

TABLETOP = Scene(xml=bundled_scene("panda", "tabletop"))
PICTURE = RenderRequest(view=View(height=64, width=96))
TEXTURE = '<mujoco><asset><texture name="t" type="cube" builtin="flat" width="{0}" height="{0}"/></asset>' + (
    '<worldbody><camera pos="0 0 3"/><geom size=".1"/></worldbody></mujoco>'
)


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@asynccontextmanager
async def running(launch=RaySceneWorker.launch, **settings):
    async with ScenePool(ServerConfig(renderer="raycast", scene_workers=1, **settings), launch=launch) as pool:
        yield pool


@pytest.fixture(scope="module")
async def pool():
    async with running(scene_timeout_s=30) as pool:
        yield pool


def slow(text: str = "") -> Scene:
    """A second or two of work, of a kind that nothing refuses; another scene for each text."""
    numbers = range(4)
    meshes = "".join(f'<mesh name="m{i}" builtin="supersphere" params="190 1 {i + 1}"/>' for i in numbers)
    geoms = "".join(f'<geom type="mesh" mesh="m{i}"/>' for i in numbers)
    body = f'<asset>{meshes}</asset><worldbody><light pos="0 0 3"/>{geoms}<camera pos="0 0 3"/></worldbody>'
    return Scene(xml=f"<mujoco>{body}</mujoco><!-- {text} -->")


async def until(condition, timeout_s: float = 30.0) -> None:
    async def holds():
        while not condition():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(holds(), timeout_s)


async def busy_worker(pool, after_s: float = 0.2) -> RaySceneWorker:
    await until(lambda: pool.workers.busy)
    await asyncio.sleep(after_s)
    (worker,) = pool.workers.busy
    assert isinstance(worker, RaySceneWorker)
    return worker


def runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_images_states_and_confinement_are_those_of_a_worker_of_this_machine(pool):
    moves = RolloutRequest(start=SceneState(), actions=np.full((4, 7), 0.02), view=PICTURE.view)
    async with ScenePool(ServerConfig(renderer="raycast", scene_workers=1)) as local:
        for each in (TABLETOP, Scene(xml=TEXTURE.format(64))):
            here, there = [(await at.render(each, PICTURE)).view.images for at in (local, pool)]
            assert here.keys() == there.keys()
            assert all(here[name].tobytes() == there[name].tobytes() for name in here)
        here, there = [await at.roll_out(TABLETOP, moves) for at in (local, pool)]
        assert here.end.physics.tobytes() == there.end.physics.tobytes()
        assert here.view.images["primary"].tobytes() == there.view.images["primary"].tobytes()
        assert (pool.confinement, pool.renderer) == (local.confinement, local.renderer)
    assert pool.pids == frozenset(), "a process id means nothing on another machine"
    assert all(worker.resident_bytes > 10 * 2**20 for worker in pool.workers.all)


@pytest.mark.parametrize("which", ["actor_pid", "pid"])
async def test_what_a_killed_actor_or_process_was_doing_is_done_by_another_worker(pool, which):
    scene = slow(which)
    drawing = asyncio.create_task(pool.render(scene, PICTURE))
    worker = await busy_worker(pool)
    os.kill(getattr(worker.launched, which), signal.SIGKILL)
    drawn = (await drawing).view.images["primary"]
    assert drawn.tobytes() == (await pool.render(scene, PICTURE)).view.images["primary"].tobytes()
    assert worker not in pool.workers.all


async def test_the_process_in_mid_job_ends_with_its_actor(pool):
    drawing = asyncio.create_task(pool.render(slow("orphan"), PICTURE))
    worker = await busy_worker(pool)
    assert runs(worker.launched.pid)
    os.kill(worker.launched.actor_pid, signal.SIGKILL)
    await until(lambda: not runs(worker.launched.pid))
    assert (await drawing).view.images


async def test_a_scene_that_takes_too_long_costs_its_worker(pool):
    async with running(scene_timeout_s=0.3) as hasty:
        drawing = asyncio.create_task(hasty.render(slow("long"), PICTURE))
        worker = await busy_worker(hasty, after_s=0)
        with pytest.raises(SceneTimeout, match=r"more than 0\.3 s"):
            await drawing
        await until(lambda: not runs(worker.launched.pid))


async def test_a_scene_that_takes_too_much_memory_is_refused(pool):
    async with running(scene_memory_mb=200, scene_timeout_s=30) as small:
        with pytest.raises(SceneTooLarge, match="memory"):
            await small.render(Scene(xml=TEXTURE.format(4096)), PICTURE)
        assert (await small.render(TABLETOP, PICTURE)).view.images


async def test_a_closed_pool_leaves_no_process():
    async with running() as pool:
        await pool.render(TABLETOP, PICTURE)
        launched = [worker.launched for worker in pool.workers.all if isinstance(worker, RaySceneWorker)]
        pids = [pid for each in launched for pid in (each.pid, each.actor_pid)]
        assert pids
        assert all(map(runs, pids))
    await until(lambda: not any(map(runs, pids)))


async def test_a_worker_for_which_no_node_has_room_is_given_up(monkeypatch):
    monkeypatch.setattr(scene_worker, "LAUNCH_S", 0.5)
    with pytest.raises(RendererUnavailable, match=r"not started within") as refused:
        async with running(lambda settings: RaySceneWorker.launch(settings, num_cpus=64)):
            pass
    assert refused.value.hint

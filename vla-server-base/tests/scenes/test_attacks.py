"""Scenes that were seen to kill, wedge or rob a process that compiles them: each is answered, none is felt.

Whatever the screening would stop is also sent to a worker's own defences, which must hold without it.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from attack_scenes import ANSWERED, ASSET_ELEMENTS, REFUSED, RUBBISH, SIMULATED, in_world, rubbish_scene
from PIL import Image
from plain_scene import assert_serves, render, running

from vla_server_base.errors import MissingAsset, SceneError, SceneRefused, SceneTimeout
from vla_server_base.scenes.messages import RenderRequest, RolloutRequest, Scene, SceneState


@pytest.fixture(scope="module")
async def narrow_pool():
    """A pool whose workers have 1 GB, and on a busy machine, too, the time to use it up."""
    async with running(scene_workers=1, scene_memory_mb=1024, scene_timeout_s=30) as pool:
        yield pool


@pytest.mark.anyio
@pytest.mark.parametrize("name", REFUSED)
async def test_refused_and_the_next_request_is_served(narrow_pool, name):
    with pytest.raises((SceneRefused, MissingAsset)) as caught:
        await render(narrow_pool, REFUSED[name])
    assert caught.value.status == 422
    assert len(caught.value.message) < 500
    await assert_serves(narrow_pool)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ANSWERED)
async def test_answered_and_the_next_request_is_served(narrow_pool, name):
    xml, error = ANSWERED[name]
    with pytest.raises(error):
        await render(narrow_pool, xml)
    await assert_serves(narrow_pool)


@pytest.mark.anyio
async def test_poison_after_poison_finds_a_healthy_worker_each_time(narrow_pool):
    xml, error = ANSWERED["poison"]
    for _ in range(3):
        with pytest.raises(error):
            await render(narrow_pool, xml)
    await assert_serves(narrow_pool)


@pytest.mark.anyio
async def test_a_fifo_is_not_opened(narrow_pool, tmp_path):
    fifo = tmp_path / "model.xml"
    os.mkfifo(fifo)
    with pytest.raises(MissingAsset):
        await render(narrow_pool, in_world(f"<include file='{fifo}'/>"))
    await assert_serves(narrow_pool)


@pytest.mark.anyio
@pytest.mark.parametrize("name", RUBBISH)
async def test_assets_of_rubbish_are_answered(narrow_pool, name):
    for asset in ASSET_ELEMENTS:
        with pytest.raises(SceneError) as caught:
            await narrow_pool.render(rubbish_scene(name, asset), RenderRequest())
        assert not isinstance(caught.value, SceneTimeout)
    await assert_serves(narrow_pool)


@pytest.mark.anyio
async def test_a_texture_that_only_another_renderer_could_decode_is_left_out(narrow_pool):
    xml = in_world("<geom size='0.1'/>", "<asset><texture name='a' type='2d' file='a.ktx'/></asset>")
    await render(narrow_pool, xml, {"a.ktx": b"\xabKTX 11\xbb\r\n\x1a\n" + bytes(range(256))})
    await assert_serves(narrow_pool)


@pytest.mark.anyio
@pytest.mark.parametrize("name", SIMULATED)
async def test_simulations_that_would_never_end_or_explode_are_answered(narrow_pool, name):
    with pytest.raises(SceneError):
        await narrow_pool.roll_out(
            Scene(xml=SIMULATED[name]), RolloutRequest(start=SceneState(), actions=np.ones((4, 7)))
        )
    await assert_serves(narrow_pool)


DEFENCELESS = """
import os, socket, tempfile
os.environ["MUJOCO_GL"] = "disable"
import mujoco
from vla_server_base.scenes.worker import confinement
elsewhere = os.path.join(tempfile.gettempdir(), "vla-test-file")
confinement.leave_no_files()
confinement.limit_memory(1024)
print(confinement.forbid_files().files)
for attempt in (
    lambda: open("/etc/passwd"),
    lambda: open(elsewhere, "w"),
    lambda: open("MUJOCO_LOG.TXT", "a"),
    lambda: os.listdir("/etc"),
    lambda: mujoco.MjSpec.from_string("<mujoco><include file='/etc/passwd'/></mujoco>").compile(),
    lambda: mujoco.MjSpec.from_string("<mujoco><asset><texture type='2d' file='%s'/></asset></mujoco>").compile(),
    lambda: bytearray(2 << 30),
    lambda: socket.socket().connect(("127.0.0.1", 9)),
    lambda: mujoco.MjSpec.from_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>").compile(),
):
    try:
        attempt()
        print("done")
    except Exception as error:
        print(type(error).__name__, str(error).replace(chr(10), " "))
"""


def test_a_confined_process_reads_and_writes_nothing_even_unscreened(tmp_path):
    image = tmp_path / "secret.png"
    Image.new("RGB", (4, 4)).save(image)
    program = [sys.executable, "-c", DEFENCELESS % image]
    output = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    confined, (*attempts, harmless) = output[0] == "True", output[1:]
    assert harmless == "done"
    # The log's folder is gone and memory is short on every kernel.
    assert attempts[2] != "done"
    assert attempts[6].startswith("MemoryError")
    if confined:
        assert "done" not in attempts
        assert [attempts[i].split()[0] for i in (0, 1, 3, 7)] == ["PermissionError"] * 4


LIMITED = """
import resource
from vla_server_base.scenes.worker import confinement
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 4 << 30))
confinement.limit_memory(100_000)
print(*resource.getrlimit(resource.RLIMIT_AS))
"""


def test_a_lower_limit_that_was_set_from_outside_stands():
    output = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True).stdout
    assert [int(number) for number in output.split()] == [3 << 30, 3 << 30]

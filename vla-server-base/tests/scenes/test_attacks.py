"""Scenes that were seen to kill, wedge or rob a process that compiles them: each is answered, none is felt.

Whatever the screening would stop is also sent to a worker's own defences, which must hold without it.
"""

import asyncio
import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from plain_scene import assert_serves, render, running

from vla_server_base.errors import MissingAsset, SceneCrashed, SceneError, SceneRefused, SceneTimeout
from vla_server_base.scenes.messages import RenderReply

CAMERA = "<camera pos='0 0 3'/>"


def in_world(text: str, before: str = "") -> str:
    return f"<mujoco>{before}<worldbody>{text}{CAMERA}</worldbody></mujoco>"


GEOM = "<geom size='0.1'/>"
LARGE_CUBES = "".join(
    f"<texture name='t{i}' type='cube' builtin='flat' width='4096' height='4096'/>" for i in range(10)
)

REFUSED = {
    "include of a file": in_world("<include file='/etc/passwd'/>"),
    "include by a relative path": in_world("<include file='../../secret.xml'/>"),
    "mesh by an absolute path": in_world(GEOM, "<asset><mesh file='/etc/hostname.stl'/></asset>"),
    "texture by a path above": in_world(GEOM, "<asset><texture type='2d' file='../a.png'/></asset>"),
    "skin file": in_world(GEOM, "<deformable><skin file='/etc/passwd'/></deformable>"),
    "flexcomp file": in_world("<flexcomp name='f' type='gmsh' file='/etc/passwd'/>"),
    "another model": in_world(GEOM, "<asset><model name='m' file='/etc/passwd'/></asset>"),
    "plugin": in_world(GEOM, "<extension><plugin plugin='/srv/evil.so'/></extension>"),
    "external entity": "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + in_world(GEOM),
    "exit by extent": in_world(GEOM, "<statistic extent='1e-300'/>"),
    "exit by near plane": in_world(GEOM, "<visual><map znear='1e-30'/></visual>"),
    "replicate": in_world(f"<replicate count='100000'>{GEOM}</replicate>"),
    "nested replicate": in_world("<replicate count='1000'>" * 3 + GEOM + "</replicate>" * 3),
    "largest replicate": in_world(f"<replicate count='2147483647'>{GEOM}</replicate>"),
    "flat geoms": in_world(GEOM * 100_000),
    "flexcomp": in_world("<flexcomp name='f' type='grid' count='60 60 60' spacing='1 1 1'/>"),
    "keyframes": in_world(GEOM, "<size nkey='2000000000'/>"),
    "memory": in_world(GEOM, "<size memory='100G'/>"),
    "user data": in_world(GEOM, "<size nuserdata='2000000000'/>"),
    "user numbers": in_world(GEOM, "<size nuser_geom='2000000000'/>"),
    "texture": in_world(GEOM, "<asset><texture type='2d' builtin='flat' width='50000' height='50000'/></asset>"),
    "height field": in_world(GEOM, "<asset><hfield nrow='46341' ncol='46341' size='1 1 1 1'/></asset>"),
    "built-in mesh": in_world(GEOM, "<asset><mesh name='m' builtin='supersphere' params='9999 1 1'/></asset>"),
    "solver": in_world(GEOM, "<option solver='PGS' iterations='2000000000'/>"),
    "spheres of many slices": in_world(GEOM, "<visual><quality numslices='3000'/></visual>"),
    "shadow map": in_world(GEOM, "<visual><quality shadowsize='32768'/></visual>"),
    "huge XML": in_world(f"<!--{'x' * 3_000_000}-->"),
}
OTHERWISE_ANSWERED = {
    "asset that was not sent": (in_world(GEOM, "<asset><mesh file='a.obj'/></asset>"), MissingAsset),
    "deep nesting": (in_world("<body>" * 5000 + "</body>" * 5000), SceneRefused),
    "poison": (
        in_world(f"<body name='a'><joint/>{GEOM}</body>", "<equality><connect body1='a' anchor=''/></equality>"),
        SceneCrashed,
    ),
    "more memory than there is": (in_world(GEOM, f"<asset>{LARGE_CUBES}</asset>"), SceneCrashed),
    "rangefinder of a large camera": (
        in_world(GEOM + "<camera name='c' resolution='4096 4096'/>").replace(
            "</mujoco>", "<sensor><rangefinder camera='c'/></sensor></mujoco>"
        ),
        SceneError,
    ),
    "mesh of wrong faces": (
        in_world(GEOM, "<asset><mesh name='m' vertex='0 0 0 1 0 0 0 1 0 0 0 1' face='0 1 999999999'/></asset>"),
        SceneError,
    ),
    "numbers of no size": (in_world("<geom size='1e300 1e300 1e300' pos='1e300 nan 0'/>"), SceneError),
}


@pytest.fixture(scope="module")
async def narrow_pool():
    """A pool whose workers have 1 GB and 5 s."""
    async with running(scene_workers=1, scene_memory_mb=1024, scene_timeout_s=5) as pool:
        yield pool


@pytest.mark.anyio
@pytest.mark.parametrize("name", REFUSED)
async def test_refused_and_the_next_request_is_served(narrow_pool, name):
    start = time.monotonic()
    with pytest.raises(SceneRefused) as caught:
        await render(narrow_pool, REFUSED[name])
    assert time.monotonic() - start < 5
    assert caught.value.status == 422
    assert len(caught.value.message) < 500
    await assert_serves(narrow_pool)


@pytest.mark.anyio
@pytest.mark.parametrize("name", OTHERWISE_ANSWERED)
async def test_answered_and_the_next_request_is_served(narrow_pool, name):
    xml, error = OTHERWISE_ANSWERED[name]
    with pytest.raises(error):
        await render(narrow_pool, xml)
    await assert_serves(narrow_pool)


@pytest.mark.anyio
async def test_poison_after_poison_finds_a_healthy_worker_each_time(narrow_pool):
    xml, error = OTHERWISE_ANSWERED["poison"]
    for _ in range(3):
        with pytest.raises(error):
            await render(narrow_pool, xml)
    await assert_serves(narrow_pool)


@pytest.mark.anyio
async def test_a_fifo_is_not_opened(narrow_pool, tmp_path):
    fifo = tmp_path / "model.xml"
    os.mkfifo(fifo)
    with pytest.raises(SceneRefused):
        await render(narrow_pool, in_world(f"<include file='{fifo}'/>"))
    await assert_serves(narrow_pool)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["png", "obj", "stl", "msh", "ktx", "bin"])
async def test_assets_of_rubbish_are_answered(narrow_pool, kind):
    rng = np.random.default_rng(0)
    picture = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(picture, "png")
    heads = {"png": picture.getvalue()[:200], "obj": b"v 1 2 3\nf 1 2 99999999\nmtllib /etc/passwd\n"}
    heads |= {"stl": bytes(80) + b"\xff\xff\xff\x7f", "ktx": b"\xabKTX 11\xbb\r\n\x1a\n"}
    content = heads.get(kind, b"\xff\xff\xff\x7f" * 4) + rng.bytes(500)
    for asset in ("mesh name='a'", "hfield size='1 1 1 1'", "texture type='2d'"):
        xml = in_world(GEOM, f"<asset><{asset} file='a.{kind}'/></asset>")
        outcome = await asyncio.gather(render(narrow_pool, xml, {f"a.{kind}": content}), return_exceptions=True)
        assert isinstance(outcome[0], SceneError | RenderReply)
        assert not isinstance(outcome[0], SceneTimeout)
    await assert_serves(narrow_pool)


DEFENCELESS = """
import os, socket, tempfile
os.environ["MUJOCO_GL"] = "disable"
import mujoco
from vla_server_base.scenes import confinement
elsewhere = os.path.join(tempfile.gettempdir(), "vla-test-file")
confinement.leave_no_files()
confinement.limit_memory(1024)
print(confinement.forbid_files())
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
    picture = tmp_path / "secret.png"
    Image.new("RGB", (4, 4)).save(picture)
    program = [sys.executable, "-c", DEFENCELESS % picture]
    said = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    landlocked, (*attempts, harmless) = said[0] == "True", said[1:]
    assert harmless == "done"
    # The log's folder is gone and memory is short on every kernel.
    assert attempts[2].startswith("FileNotFoundError")
    assert attempts[6].startswith("MemoryError")
    if landlocked:
        assert "done" not in attempts
        assert [attempts[i].split()[0] for i in (0, 1, 3, 7)] == ["PermissionError"] * 4

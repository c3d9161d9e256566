"""What the scene workers cost over drawing in the server's own process, and what scenes cost to draw and to step.

    cd vla-servers/octo-small && uv run python ../../benchmarks/scene_pool.py

Run from there for the Panda with meshes, which comes with that environment's dm-robotics-panda package; from
vla-server-base it measures the bundled scenes alone. Prints Markdown; fails where the workers add more than 1 ms.
"""

import asyncio
import importlib.metadata
import itertools
import os
import platform
import sys
import time
import xml.etree.ElementTree
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

# Before mujoco is imported, as in a worker.
os.environ |= {"MUJOCO_GL": "disable", "LP_NUM_THREADS": "1"}

import mujoco
import numpy as np

from vla_server_base.config import ServerConfig
from vla_server_base.errors import RendererUnavailable
from vla_server_base.request_context import current_client
from vla_server_base.scenes.library import bundled_scene
from vla_server_base.scenes.messages import (
    ControlSettings,
    RenderQuality,
    RenderRequest,
    RolloutRequest,
    Scene,
    SceneState,
    View,
)
from vla_server_base.scenes.pool import ScenePool
from vla_server_base.scenes.worker.rendering.renderer import Renderer, open_renderer
from vla_server_base.scenes.worker.scene import compile_scene
from vla_server_base.scenes.worker.scene_cameras import pick_cameras
from vla_server_base.scenes.worker.scene_state import apply_state
from vla_server_base.scenes.worker.screening import screen

MAX_OVERHEAD_MS = 1.0
SIZE = 224
BLOCKS, ROUNDS, WARM_UP = 8, 100, 20
QUALITIES = {
    "plain": RenderQuality(),
    "shadows": RenderQuality(shadows=True),
    "reflections": RenderQuality(reflections=True),
    "4 samples": RenderQuality(multisampling=4),
    "all": RenderQuality(shadows=True, reflections=True, multisampling=4),
}


async def main() -> None:
    """Measure and print."""
    print(f"{_machine()}.\n")
    bundled = {f"{robot}/tabletop": Scene(xml=bundled_scene(robot, "tabletop")) for robot in ("panda", "widowx")}
    async with _running(renderer="auto") as pool:
        overheads = await _print_overhead(pool, bundled)
        await _print_control_steps(pool, bundled)
    await _print_sharing(bundled["widowx/tabletop"])
    await _print_render_times(bundled | _panda_with_meshes())
    if max(overheads) > MAX_OVERHEAD_MS:
        sys.exit(f"FAILED: the workers add {max(overheads):.2f} ms, the limit is {MAX_OVERHEAD_MS}")


async def _print_overhead(pool: ScenePool, scenes: dict[str, Scene]) -> list[float]:
    """Draw by turns here and in a worker, both with the scene compiled; return what each scene takes longer there.

    Others' load makes everything slower, so blocks are compared, and the one counts in which drawing here was fastest.
    """
    print(f"One image of {SIZE} x {SIZE}, {pool.renderer}, taken by turns; medians of {BLOCKS} x {ROUNDS} images,")
    print(f"and of the {ROUNDS} during which the machine was quietest:\n")
    print(
        "| scene | in process ms | by a worker ms | difference ms | quietest: in process, by a worker | difference ms |"
    )
    print("|---|---|---|---|---|---|")
    assert pool.renderer != "raycast", "only OpenGL is worth the comparison"
    renderer, overheads = open_renderer(pool.renderer, RenderQuality()), []
    for name, scene in scenes.items():
        here, there = await _by_turns(pool, scene, renderer)
        quietest = int(np.argmin(np.median(here, axis=1)))
        (all_here, all_there), (quiet_here, quiet_there) = (
            (float(np.median(a)), float(np.median(b))) for a, b in ((here, there), (here[quietest], there[quietest]))
        )
        overheads.append(quiet_there - quiet_here)
        row = f"{all_here:.2f} | {all_there:.2f} | {all_there - all_here:.2f} | {quiet_here:.2f} and {quiet_there:.2f}"
        print(f"| {name} | {row} | {overheads[-1]:.2f} |", flush=True)
    return overheads


async def _by_turns(pool: ScenePool, scene: Scene, renderer: Renderer) -> tuple[np.ndarray, np.ndarray]:
    """Return milliseconds of images drawn here and of images drawn by a worker, a row for each block."""
    request = RenderRequest(view=View(height=SIZE, width=SIZE, cameras={"primary": None}))
    model = compile_scene(screen(scene))
    data, drawing = mujoco.MjData(model), renderer.prepare(model)
    camera = pick_cameras(model, View(cameras={"primary": None}))["primary"]
    here, there = np.zeros((2, BLOCKS * ROUNDS + WARM_UP))
    for index in range(len(here)):
        started = time.perf_counter()
        apply_state(model, data, SceneState())
        drawn = drawing.draw(data, camera, SIZE, SIZE, geom_groups=(0, 1, 2))
        between = time.perf_counter()
        reply = await pool.render(scene, request)
        here[index], there[index] = 1e3 * (between - started), 1e3 * (time.perf_counter() - between)
        assert np.array_equal(drawn, reply.view.images["primary"]), "both draw the same"
    drawing.free()
    return here[WARM_UP:].reshape(BLOCKS, ROUNDS), there[WARM_UP:].reshape(BLOCKS, ROUNDS)


async def _print_control_steps(pool: ScenePool, scenes: dict[str, Scene]) -> None:
    print("\nOne action at 5 Hz, 0.2 s of physics, without an image; median of 50:\n")
    print("| scene | physics ms | with the way to the worker and back ms |\n|---|---|---|")
    for name, scene in scenes.items():
        actions = np.array([[0.01, 0, 0, 0, 0, 0.02, 1]])
        request = RolloutRequest(start=SceneState(), actions=actions, control=ControlSettings())
        physics, whole = await _medians(lambda s=scene, r=request: pool.roll_out(s, r), "physics_ms", 50)
        print(f"| {name} | {physics:.1f} | {whole:.1f} |", flush=True)


async def _print_sharing(scene: Scene) -> None:
    """Have clients ask in turn, each for an image of its own scene, or all for one of the same scene."""
    print("\nOne image for each of several clients in turn, 10 rounds, after one that does not count:\n")
    print("| clients | scenes | median ms | slowest ms | processes |\n|---|---|---|---|---|")
    for num_clients, whose in ((1, "own"), (16, "one, bundled"), (2, "own"), (8, "own"), (12, "own")):
        async with _running() as pool:
            times = []
            for _ in range(11):
                for client in range(num_clients):
                    current_client.set(f"192.0.2.{client}")
                    asked = Scene(xml=f"{scene.xml}<!-- {client} -->") if whose == "own" else scene
                    started = time.perf_counter()
                    await pool.render(
                        asked, RenderRequest(view=View(height=SIZE, width=SIZE, cameras={"primary": None}))
                    )
                    times.append(1e3 * (time.perf_counter() - started))
            counted, num_processes = times[num_clients:], len(pool.pids)
        row = f"{np.median(counted):.1f} | {max(counted):.0f} | {num_processes}"
        print(f"| {num_clients} | {whose} | {row} |", flush=True)


async def _print_render_times(scenes: dict[str, Scene]) -> None:
    print(f"\nMilliseconds for one image of {SIZE} x {SIZE} in a worker, median of 30:\n")
    print(f"| renderer, quality | {' | '.join(scenes)} |\n|---|{'---|' * len(scenes)}")
    for renderer, quality in itertools.product(("egl", "osmesa"), QUALITIES):
        await _print_row(renderer, quality, scenes)
    await _print_row("raycast", "plain", scenes)


async def _print_row(renderer: str, quality: str, scenes: dict[str, Scene]) -> None:
    wanted = QUALITIES[quality]
    settings = {
        "scene_shadows": wanted.shadows,
        "scene_reflections": wanted.reflections,
        "scene_multisampling": wanted.multisampling,
    }
    try:
        async with _running(renderer=renderer, scene_workers=1, **settings) as pool:
            request = RenderRequest(view=View(height=SIZE, width=SIZE, cameras={"primary": None}))
            medians = [
                (await _medians(lambda s=scene: pool.render(s, request), "render_ms", 30))[0]
                for scene in scenes.values()
            ]
    except RendererUnavailable as error:
        if quality == "plain":
            print(f"\n({renderer} is not measured: {error.message[:200]})\n")
        return
    print(f"| {renderer}, {quality} | {' | '.join(f'{ms:.1f}' for ms in medians)} |", flush=True)


async def _medians(ask: Callable[[], Awaitable], cost: str, rounds: int) -> tuple[float, float]:
    """Return the median of what a worker says that it took, and of what that took from here [ms]."""
    inside, whole = [], []
    for _ in range(rounds + 5):
        started = time.perf_counter()
        reply = await ask()
        whole.append(1e3 * (time.perf_counter() - started))
        inside.append(getattr(reply.cost, cost))
    return float(np.median(inside[5:])), float(np.median(whole[5:]))


@asynccontextmanager
async def _running(**settings) -> AsyncIterator[ScenePool]:
    pool = ScenePool(ServerConfig(**settings))
    await pool.start()
    while len(pool.workers.idle) <= pool._config.scene_workers:
        await asyncio.sleep(0.1)  # workers that start would count
    try:
        yield pool
    finally:
        await pool.close()


def _panda_with_meshes() -> dict[str, Scene]:
    """Return dm-robotics-panda's arm as it is, with a camera and a light put in front; nothing where it is missing."""
    try:
        distribution = importlib.metadata.distribution("dm-robotics-panda")
    except importlib.metadata.PackageNotFoundError:
        print("\n(The Panda with meshes is not measured: dm-robotics-panda is not installed in this environment.)")
        return {}
    folder = Path(str(distribution.locate_file("dm_robotics/panda/assets/panda")))
    root = xml.etree.ElementTree.parse(folder / "panda.xml").getroot()
    compiler, world = root.find("compiler"), root.find("worldbody")
    assert compiler is not None
    assert world is not None
    meshes = folder / compiler.get("meshdir", ".")
    named = [*root.iter("mesh"), *root.iter("texture")]
    assets = {element.attrib["file"]: (meshes / element.attrib["file"]).read_bytes() for element in named}
    for tag, attributes in (
        ("camera", {"name": "front", "pos": "1.8 0 0.8", "xyaxes": "0 1 0 -0.3 0 1"}),
        ("light", {"pos": "1 0 3"}),
    ):
        world.append(xml.etree.ElementTree.Element(tag, attributes))
    return {"Panda with meshes": Scene(xml=xml.etree.ElementTree.tostring(root, encoding="unicode"), assets=assets)}


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        )
    versions = f"Python {platform.python_version()}, mujoco {importlib.metadata.version('mujoco')}"
    return f"{time.strftime('%Y-%m-%d')}, {cpu}, {os.cpu_count()} cores, {versions}"


if __name__ == "__main__":
    asyncio.run(main())

"""One plain scene, and what to ask of a pool with it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from vla_server_base.config import ServerConfig
from vla_server_base.scenes.messages import RenderRequest, Scene, SceneState, View
from vla_server_base.scenes.pool import ScenePool

PLAIN_XML = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="box" size="0.1 0.1 0.1" pos="-0.25 0 0" rgba="1 0 0 1"/>
    <body name="ball" pos="0.25 0 0">
      <joint name="slide" type="slide" axis="0 1 0"/>
      <geom type="sphere" size="0.1" rgba="0 0 1 1"/>
    </body>
    <camera name="primary" pos="0 0 1.5"/>
  </worldbody>
</mujoco>
"""


@asynccontextmanager
async def running(**settings) -> AsyncIterator[ScenePool]:
    pool = ScenePool(ServerConfig(**settings))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def until(condition, timeout_s=15.0):
    """Wait until a condition holds, and fail if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def render(
    pool: ScenePool, xml: str = PLAIN_XML, assets=None, *, state=None, camera=None, wrist_camera=None, **rest
):
    """Return the reply to a request."""
    scene = Scene(xml=xml, assets=assets or {})
    view = View(**{"cameras": {"primary": camera, "wrist": wrist_camera}, **rest})
    return await pool.render(scene, RenderRequest(state=state or SceneState(), view=view))


async def assert_serves(pool: ScenePool) -> None:
    """The plain scene comes out right: red on the left, blue on the right, nothing above."""
    image = (await render(pool)).view.images["primary"]
    rows, columns = where(image, "red")
    assert abs(rows.mean() - 112) < 4
    assert columns.mean() < 90
    assert where(image, "blue")[1].mean() > 134
    assert image[:20].max() == 0


def where(image: np.ndarray, colour: str):
    """Return rows and columns of the pixels in which a colour is by far the strongest."""
    channel = ("red", "green", "blue").index(colour)
    others = np.delete(image, channel, axis=2).max(axis=2).astype(int)
    return np.nonzero(image[..., channel] > others + 40)


def children() -> set[int]:
    """Return the process ids of this process's children."""
    pids = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            pids.add(int(stat.parent.name))
    return pids

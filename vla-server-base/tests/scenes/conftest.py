"""Pools of real worker processes, one for each renderer that works on this machine."""

from contextlib import AsyncExitStack, suppress

import pytest
from plain_scene import running

from vla_server_base.errors import RendererUnavailable
from vla_server_base.scenes.pool import ScenePool


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """MuJoCo appends its warnings to a log in the working folder: let that be nowhere."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
async def pools():
    """Every renderer that works here, by name; `raycast` works everywhere."""
    async with AsyncExitStack() as stack:
        working = {}
        for name in ("egl", "osmesa"):
            with suppress(RendererUnavailable):
                working[name] = await stack.enter_async_context(running(renderer=name, scene_workers=1))
        working["raycast"] = await stack.enter_async_context(running(renderer="raycast", scene_workers=1))
        yield working


@pytest.fixture(scope="session")
def pool(pools) -> ScenePool:
    """The renderer that `auto` would take."""
    return next(iter(pools.values()))

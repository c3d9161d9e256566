"""A pool that all tests of episodes share."""

import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.scenes.pool import ScenePool


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
async def pool():
    pool = ScenePool(ServerConfig(renderer="raycast", scene_workers=1))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()

"""A pool that all tests of the tabletop suite share."""

import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.scenes.pool import ScenePool


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
async def pool():
    async with ScenePool(ServerConfig(renderer="raycast", scene_workers=2)) as pool:
        yield pool

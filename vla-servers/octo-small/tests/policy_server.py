"""A policy server's client for tests that are not asynchronous, and a port to serve at."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from vla_server_base.episodes import PolicyServer


def predict(url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the reply of `POST /predict`."""

    async def ask() -> Mapping[str, Any]:
        async with PolicyServer(url) as server:
            return await server.predict(body)

    return asyncio.run(ask())


def wait_until_healthy(url: str) -> None:
    """Wait until the policy answers."""

    async def ask() -> None:
        async with PolicyServer(url) as server:
            await server.wait_until_healthy()

    asyncio.run(ask())


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]

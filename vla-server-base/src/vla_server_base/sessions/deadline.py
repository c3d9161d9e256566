"""Deadlines: a robot does not wait for an action that comes after its control step."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from vla_server_base.errors import DeadlinePassed

T = TypeVar("T")


async def within_deadline(work: Awaitable[T], deadline_ms: float | None) -> T:
    """Await work, and cancel it at its deadline.

    Raises:
        DeadlinePassed: the deadline came first.
    """
    try:
        return await asyncio.wait_for(work, None if deadline_ms is None else deadline_ms / 1e3)
    except asyncio.TimeoutError as error:
        raise DeadlinePassed(
            f"no answer within the deadline of {deadline_ms:.0f} ms",
            hint="send the next observation; it is answered as usual",
        ) from error

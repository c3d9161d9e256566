"""Deadlines: a robot does not wait for an action that comes after its control step."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from vla_server_base.errors import DeadlinePassed
from vla_server_base.request_context import current_deadline

T = TypeVar("T")


async def within_deadline(work: Awaitable[T], deadline_ms: float | None) -> T:
    """Await work, and cancel it at its deadline; queues on its way serve first what is due first.

    Raises:
        DeadlinePassed: the deadline came first.
    """
    if deadline_ms is None:
        return await work
    before = current_deadline.set(time.monotonic() + deadline_ms / 1e3)
    try:
        return await asyncio.wait_for(work, deadline_ms / 1e3)
    except asyncio.TimeoutError as error:
        raise DeadlinePassed(
            f"no answer within the deadline of {deadline_ms:.0f} ms",
            hint="send the next observation; it is answered as usual",
        ) from error
    finally:
        current_deadline.reset(before)

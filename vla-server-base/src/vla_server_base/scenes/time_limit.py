"""The time limit of a worker's job, by the time for which this process runs."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_LONGEST_PIECE_S = 1.0


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, for so long; a pause of this whole process, or of its machine, counts as a second at most.

    Otherwise a job whose reply lies ready after the pause would have taken too long.

    Raises:
        asyncio.TimeoutError: it took longer, and was cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        while seconds > 0 and not task.done():
            piece_s = min(seconds, _LONGEST_PIECE_S)
            await asyncio.wait([task], timeout=piece_s)
            seconds -= piece_s
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

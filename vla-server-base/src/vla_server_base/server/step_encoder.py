"""StepEncoder: a session's steps as events, encoded on one thread for all who watch."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from weakref import WeakKeyDictionary

from vla_server_base.sessions.answered_steps import AnsweredStep


class StepEncoder:
    """Encodes each step once, however many watch it, on a thread that robots' requests do not need."""

    def __init__(self, encode: Callable[[AnsweredStep], bytes]) -> None:
        self._encode = encode
        self._thread = ThreadPoolExecutor(1, "vla-watching")
        self._events: WeakKeyDictionary[AnsweredStep, Future[bytes]] = WeakKeyDictionary()

    async def event(self, step: AnsweredStep) -> bytes:
        """Return the event of a step."""
        work = self._events.get(step)
        if work is None:
            work = self._events[step] = self._thread.submit(self._encode, step)
        # Not cancelled with a watcher who leaves: it is the others' too.
        return await asyncio.shield(asyncio.wrap_future(work))

    def close(self) -> None:
        """End the thread, after what it encodes now."""
        self._thread.shutdown(wait=False)

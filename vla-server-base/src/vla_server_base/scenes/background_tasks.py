"""Tasks that nobody awaits at once: kept until they are done, their failures logged."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from vla_server_base.errors import VLAError
from vla_server_base.scenes.worker_death import WorkerDied

logger = logging.getLogger(__name__)

T = TypeVar("T")


class BackgroundTasks:
    """A set of running tasks."""

    def __init__(self):
        self._tasks: set[asyncio.Task[Any]] = set()

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run a coroutine as a task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_failure)
        return task

    async def cancel(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait(self) -> None:
        """Wait until all tasks are done."""
        while self._tasks:
            # Not `gather`: since Python 3.12 it never yields to the loop if all are done, so that none would be
            # discarded.
            await asyncio.wait(self._tasks)


def _log_failure(task: "asyncio.Task[Any]") -> None:
    """Log failures of the server; errors of a scene are for its client, who may be gone."""
    error = None if task.cancelled() else task.exception()
    if error and not isinstance(error, VLAError | WorkerDied):
        logger.error("a task of the scene pool failed", exc_info=error)

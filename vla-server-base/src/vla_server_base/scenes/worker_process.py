"""The server's end of one worker process: start it, run jobs in it, limit its memory, end it."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from vla_server_base.errors import RendererUnavailable, VLAError
from vla_server_base.scenes.ipc import encode_message, read_reply
from vla_server_base.scenes.messages import Confinement, SceneJob, WorkerReply, WorkerSettings
from vla_server_base.scenes.worker_death import WorkerDied, death_of
from vla_server_base.scenes.worker_environment import worker_environment

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
"""A worker is ready after 1 s; the first search for a graphics driver on a machine has taken 5 s."""

PIECE_BYTES = 1 << 20

CHECK_S = 0.05
"""Between two checks of a busy worker's memory; in that time it may take some 200 MB more."""

LONGEST_PIECE_S = 1.0
"""As how long a pause of this whole process counts, at most, in the time of a job."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

T = TypeVar("T")


class WorkerProcess:
    """One worker; `cached` has the keys of the scenes that it has compiled and kept.

    `compiled` has the keys of all scenes that it ever compiled and `clients` whose they were: a scene may have left
    anything in the process.
    """

    confinement: Confinement

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stderr: BinaryIO,
        memory_mb: int,
    ):
        self._process, self._reader, self._writer = process, reader, writer
        # A file without a name, so that nobody has to read along.
        self._stderr = stderr
        self.cached: frozenset[str] = frozenset()
        self.compiled: set[str] = set()
        self.clients: set[str] = set()
        self._memory = MemoryLimit(process.pid, memory_mb, self.kill)
        loop = asyncio.get_running_loop()
        self._returncode: asyncio.Future[int] = loop.create_future()
        threading.Thread(target=self._watch, args=(loop,), name=f"watch-{process.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def name(self) -> str:
        """Which process it is, for the log."""
        return str(self.pid)

    @property
    def resident_bytes(self) -> int:
        """How much memory the process takes; 0 if it has ended, or the system has no /proc."""
        return _resident_bytes(self.pid) or 0

    @classmethod
    async def launch(cls, settings: WorkerSettings) -> "WorkerProcess":
        """Start a worker and wait until it has shown that it can render.

        Raises:
            RendererUnavailable: with the reason, also if the attempt died or hung.
        """
        try:
            worker = await cls._spawn(settings.memory_mb)
        except OSError as error:
            raise RendererUnavailable(
                f"no process can be started: {error}", hint="check the limits on processes and memory"
            ) from error
        try:
            reply = await asyncio.wait_for(worker._exchange(settings), START_TIMEOUT_S)
            if isinstance(reply.outcome, VLAError):
                raise reply.outcome
            assert reply.confinement is not None, "a worker that is ready sends its confinement"
            worker.confinement = reply.confinement
        except (asyncio.TimeoutError, WorkerDied) as error:
            how = str(error) or f"not ready after {START_TIMEOUT_S:.0f} s"
            await worker.end()
            raise RendererUnavailable(
                f"{settings.renderer} does not work here: {how}", hint="VLA_RENDERER=raycast needs no system library"
            ) from error
        except BaseException:
            await worker.end()
            raise
        worker._memory.set_baseline()
        return worker

    @classmethod
    async def _spawn(cls, memory_mb: int) -> "WorkerProcess":
        server_end, worker_end = socket.socketpair()
        with worker_end:
            reader, writer = await asyncio.open_unix_connection(sock=server_end, limit=PIECE_BYTES)
            # Not asyncio's subprocess: under uvloop that runs the fork hooks of every library in the process, JAX's
            # among them. Not awaited either, so that a cancelled start leaves no process behind.
            stderr = _nameless_file()
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "vla_server_base.scenes.worker.main"],
                    stdin=worker_end.fileno(),
                    stdout=worker_end.fileno(),
                    stderr=stderr,
                    env=worker_environment(),
                    # Ctrl-C in a terminal is for the server, which ends its workers itself.
                    start_new_session=True,
                )
            except OSError:
                writer.close()
                stderr.close()
                raise
        return cls(process, reader, writer, stderr, memory_mb)

    async def run(self, job: SceneJob) -> WorkerReply:
        """Send a job, wait for its reply however long it takes, and update `cached`.

        Raises:
            WorkerDied: instead of a reply; also if the worker took more memory than it may.
        """
        self._memory.start()
        try:
            reply = await self._exchange(job)
        finally:
            self._memory.stop()
        self.cached = reply.cached
        return reply

    async def _exchange(self, message: WorkerSettings | SceneJob) -> WorkerReply:
        # Off the loop and in pieces: a scene may have 60 MB of meshes. Without a scene it is a few kB.
        has_scene = isinstance(message, SceneJob) and message.scene is not None
        content = memoryview(await asyncio.to_thread(encode_message, message) if has_scene else encode_message(message))
        try:
            for start in range(0, len(content), PIECE_BYTES):
                self._writer.write(content[start : start + PIECE_BYTES])
                await self._writer.drain()
            return await read_reply(self._reader)
        except (EOFError, OSError, ValueError) as error:
            self.kill()
            returncode = await self.ended()
            logger.warning("worker pid=%s returncode=%s %s", self.pid, returncode, self._last_stderr())
            exceeded_mb = self._memory.memory_mb if self._memory.is_exceeded else None
            raise death_of(returncode, error, exceeded_mb) from error

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        returncode = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._returncode.set_result, returncode)

    async def ended(self) -> int:
        """Wait until the process has ended; return its exit status, negative for a signal."""
        return await asyncio.shield(self._returncode)

    def kill(self) -> None:
        """Kill the process now, without waiting for its end."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill the process, and wait until it has ended and its files are closed."""
        self.kill()
        self._writer.close()
        # An unread reply would keep the pipe open forever.
        with contextlib.suppress(OSError):
            await self._reader.read()
        await self.ended()
        self._stderr.close()

    def _last_stderr(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - 2000))
        return self._stderr.read().decode("utf-8", "replace").strip()


def _nameless_file() -> BinaryIO:
    """Return a file for a worker's errors: in memory where there is such a thing, for the disk may be full."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("worker-stderr"), "w+b")
    return tempfile.TemporaryFile()


class MemoryLimit:
    """Calls `kill` if a process takes more memory than it may, while it is checked.

    Not left to the kernel: RLIMIT_AS counts what is reserved and never touched, and no limit counts resident memory.
    """

    def __init__(self, pid: int, memory_mb: int, kill: Callable[[], None]):
        self.memory_mb = memory_mb
        self.is_exceeded = False
        self._pid, self._kill = pid, kill
        self._max_bytes: int | None = None
        self._next_check: asyncio.TimerHandle | None = None

    def set_baseline(self) -> None:
        """Let the process take `memory_mb` more than it has now."""
        num_bytes = _resident_bytes(self._pid)
        if num_bytes is not None:
            self._max_bytes = num_bytes + self.memory_mb * 2**20

    def start(self) -> None:
        """Check regularly, from now on."""
        self._next_check = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def stop(self) -> None:
        """Check no more."""
        if self._next_check is not None:
            self._next_check.cancel()

    def _check(self) -> None:
        num_bytes = _resident_bytes(self._pid)
        if num_bytes is None or self._max_bytes is None:
            return
        if num_bytes > self._max_bytes:
            self.is_exceeded = True
            self._kill()
        else:
            self.start()


def _resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process; None if it has ended, or the system has no /proc."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return None


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, for so long; a pause of this whole process, or of its machine, counts as a second at most.

    Otherwise a job whose reply lies ready after the pause would have taken too long.

    Raises:
        asyncio.TimeoutError: it took longer, and was cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        while seconds > 0 and not task.done():
            piece_s = min(seconds, LONGEST_PIECE_S)
            await asyncio.wait([task], timeout=piece_s)
            seconds -= piece_s
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

"""The server's end of one worker process: start it, ask it, end it."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import site
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import BinaryIO, Literal

from vla_server_base.errors import RendererUnavailable, VLAError
from vla_server_base.scenes.ipc import read_answer, to_worker
from vla_server_base.scenes.messages import Answer, Confinement, Job, WorkerSettings

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
"""A worker is ready after 1 s; a machine's first look for a graphics driver has taken 5 s."""

WATCH_S = 0.05
"""Between two looks at a busy worker's memory; in that time it may take some 200 MB more."""

PIECE_BYTES = 1 << 20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ENVIRONMENT = {
    # On two cores more threads draw no faster, and each reserves memory.
    "LP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    # Scenes of megabytes leave as they came: on the heap they left holes, 30 MB after a thousand small ones.
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
    # Shaders would be written to the home folder, which a worker cannot open.
    "MESA_SHADER_CACHE_DISABLE": "true",
}
# What Python, the loader of libraries and graphics drivers go by. Nothing else of the server's environment is a
# worker's: tokens and keys are kept in it.
PASSED_ON = re.compile(
    r"(CUDA_VISIBLE_DEVICES|DRI_PRIME|GLIBC_TUNABLES|LANG|LC_\w+|LD_LIBRARY_PATH|LD_PRELOAD|MUJOCO_EGL_DEVICE_ID"
    r"|NVIDIA_DRIVER_CAPABILITIES|NVIDIA_VISIBLE_DEVICES|PATH|SYSTEMROOT|TEMP|TMP|TMPDIR"
    r"|PYTHON(DONTWRITEBYTECODE|HOME|NOUSERSITE|PATH|PYCACHEPREFIX|SAFEPATH|USERBASE|UTF8|WARNINGS)"
    r"|(DYLD|EGL|GALLIUM|GLX|LIBGL|LP|MALLOC|MESA|OSMESA|__EGL|__GL|__GLX|__NV)_\w+)"
)


# What people, service managers and the kernel that lacks memory end processes with.
SENT_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})

Cause = Literal["scene", "memory", "processor", "outside"]


class WorkerDied(Exception):
    """The process ended, or said something that is no answer.

    `cause` is what it seems to have died of: what its scene did, the scene's memory or processor time, or a signal
    from outside, which is no scene's fault.
    """

    def __init__(self, how: str, cause: Cause):
        super().__init__(how)
        self.cause: Cause = cause


class WorkerProcess:
    """One worker; `held` names the scenes that it holds compiled.

    `compiled` names all scenes that it ever compiled, `clients` are those for whom: a scene may have left anything in
    the process, for whoever comes after it to find.
    """

    confinement: Confinement

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        words: BinaryIO,
        memory_mb: int,
    ):
        self._process, self._reader, self._writer = process, reader, writer
        # What it writes to standard error, in a file without a name: nobody need read along.
        self._words = words
        self.held: frozenset[str] = frozenset()
        self.compiled: set[str] = set()
        self.clients: set[str] = set()
        self._memory_mb = memory_mb
        self._most_resident_bytes: int | None = None
        self._takes_too_much = False
        loop = asyncio.get_running_loop()
        self._returncode: asyncio.Future[int] = loop.create_future()
        threading.Thread(target=self._watch, args=(loop,), name=f"watch-{process.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        returncode = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._returncode.set_result, returncode)

    @classmethod
    async def launch(cls, settings: WorkerSettings) -> "WorkerProcess":
        """Start a worker and wait until it has proved that it can draw.

        Raises:
            RendererUnavailable: with the reason, also where the attempt died or hung.
        """
        try:
            worker = await cls._spawn(settings.memory_mb)
        except OSError as error:
            raise RendererUnavailable(f"no process can be started: {error}") from error
        try:
            answer = await asyncio.wait_for(worker._exchange(settings), START_TIMEOUT_S)
            if isinstance(answer.outcome, VLAError):
                raise answer.outcome
            assert answer.confinement is not None, "a worker that is ready says how it is confined"
            worker.confinement = answer.confinement
        except (asyncio.TimeoutError, WorkerDied) as error:
            how = str(error) or f"not ready after {START_TIMEOUT_S:.0f} s"
            await worker.end()
            raise RendererUnavailable(f"{settings.renderer} does not work here: {how}") from error
        except BaseException:
            await worker.end()
            raise
        worker._limit_memory()
        return worker

    @classmethod
    async def _spawn(cls, memory_mb: int) -> "WorkerProcess":
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=PIECE_BYTES)
            # Not asyncio's own: under uvloop that runs the fork hooks of every library in the process, JAX's among
            # them. Not awaited either, so that a cancelled start leaves no process behind.
            words = tempfile.TemporaryFile()  # noqa: SIM115
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "vla_server_base.scenes.worker.main"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=words,
                    env=_environment(),
                    # Ctrl-C in a terminal is for the server, which ends its workers itself.
                    start_new_session=True,
                )
            except OSError:
                writer.close()
                words.close()
                raise
        return cls(process, reader, writer, words, memory_mb)

    async def ask(self, job: Job) -> Answer:
        """Send a job, wait for its answer however long it takes, and note what the worker then holds.

        Raises:
            WorkerDied: instead of an answer; also where the worker took more memory than it may.
        """
        self._look_later()
        try:
            answer = await self._exchange(job)
        finally:
            self._next_look.cancel()
        self.held = answer.held
        return answer

    def _limit_memory(self) -> None:
        """Let the process hold so much more memory resident than it does now; what is only reserved costs nothing."""
        resident = self._resident_bytes()
        if resident is not None:
            self._most_resident_bytes = resident + self._memory_mb * 2**20

    def _look_later(self) -> None:
        self._next_look = asyncio.get_running_loop().call_later(WATCH_S, self._look_at_memory)

    def _look_at_memory(self) -> None:
        """End the process if it holds more than it may.

        Not left to the kernel: RLIMIT_AS counts what is reserved and never touched, and no limit counts what is.
        """
        resident = self._resident_bytes()
        if resident is None or self._most_resident_bytes is None:
            return
        if resident > self._most_resident_bytes:
            self._takes_too_much = True
            self.kill()
        else:
            self._look_later()

    def _resident_bytes(self) -> int | None:
        """Return what the process holds; None where it has ended, and on systems without /proc."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES
        except (OSError, IndexError):
            return None

    async def _exchange(self, message: WorkerSettings | Job) -> Answer:
        # Off the loop and in pieces: a scene may carry 60 MB of meshes. Without a scene it is a few kB.
        carries_scene = isinstance(message, Job) and message.scene is not None
        frame = memoryview(await asyncio.to_thread(to_worker, message) if carries_scene else to_worker(message))
        try:
            for start in range(0, len(frame), PIECE_BYTES):
                self._writer.write(frame[start : start + PIECE_BYTES])
                await self._writer.drain()
            return await read_answer(self._reader)
        except (EOFError, OSError, ValueError) as error:
            self.kill()
            returncode = await self.ended()
            logger.warning("worker pid=%s returncode=%s %s", self._process.pid, returncode, self._last_words())
            raise self._died(returncode, error) from error

    def _died(self, returncode: int, error: Exception) -> WorkerDied:
        if self._takes_too_much:
            return WorkerDied(f"it took more than {self._memory_mb} MB of memory", "memory")
        if returncode == -signal.SIGXCPU:
            return WorkerDied(_how(returncode, error), "processor")
        # What is no answer was said by a living process, which we have ended ourselves.
        from_outside = -returncode in SENT_FROM_OUTSIDE and not isinstance(error, ValueError)
        return WorkerDied(_how(returncode, error), "outside" if from_outside else "scene")

    async def ended(self) -> int:
        """Wait until the process has ended; return its exit status, negative for a signal."""
        return await asyncio.shield(self._returncode)

    def kill(self) -> None:
        """End the process now, without waiting for it to be gone."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """End the process and wait until nothing of it is left."""
        self.kill()
        self._writer.close()
        # An answer that nobody read would keep the pipe open for ever.
        with contextlib.suppress(OSError):
            await self._reader.read()
        await self.ended()
        self._words.close()

    def _last_words(self) -> str:
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - 2000))
        return self._words.read().decode("utf-8", "replace").strip()


def _environment() -> dict[str, str]:
    passed_on = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    # A worker has no HOME, by which Python finds what was installed for this user alone.
    own = {"PYTHONUSERBASE": site.getuserbase()} if site.ENABLE_USER_SITE else {}
    return {**ENVIRONMENT, **own, **passed_on}


def _how(returncode: int, error: Exception) -> str:
    if returncode < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"its worker was ended by {names.get(-returncode, f'signal {-returncode}')}"
    return f"its worker ended with status {returncode} ({type(error).__name__})"

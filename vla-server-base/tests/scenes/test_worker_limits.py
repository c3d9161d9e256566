"""What ends a worker, and what its server takes for the cause."""

import asyncio
import signal
import subprocess
import sys

import pytest

from vla_server_base.scenes.worker_death import death_of
from vla_server_base.scenes.worker_process import MemoryLimit

pytestmark = pytest.mark.anyio

GROWS = "print(flush=True); input(); block = bytearray(b'x') * (200 << 20); input()"


@pytest.fixture
def growing():
    """A process that takes 200 MB once it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", GROWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        process.stdout.readline()
        yield process
        process.kill()


async def ended(process: subprocess.Popen) -> int:
    return await asyncio.to_thread(process.wait, 30)


async def test_a_process_that_takes_too_much_memory_is_killed(growing):
    limit = MemoryLimit(growing.pid, 50, growing.kill)
    limit.set_baseline()
    limit.start()
    growing.stdin.write("\n")
    assert await ended(growing) == -signal.SIGKILL
    assert limit.is_exceeded
    limit.stop()


async def test_a_process_that_stays_below_its_limit_lives_and_is_checked_again(growing):
    limit = MemoryLimit(growing.pid, 4000, growing.kill)
    limit.set_baseline()
    limit.start()
    growing.stdin.write("\n")
    await asyncio.sleep(0.3)
    assert growing.poll() is None
    assert not limit.is_exceeded
    limit.stop()


async def test_no_baseline_means_no_limit_and_a_process_that_is_gone_has_none(growing):
    limit = MemoryLimit(growing.pid, 0, growing.kill)
    limit.start()
    growing.stdin.write("\n")
    await asyncio.sleep(0.2)
    assert growing.poll() is None
    growing.kill()
    await ended(growing)
    limit.set_baseline()
    limit.start()
    await asyncio.sleep(0.1)
    assert not limit.is_exceeded


@pytest.mark.parametrize(
    ("returncode", "error", "cause", "how"),
    [
        (-signal.SIGSEGV, EOFError(), "scene", "ended by SIGSEGV"),
        (-signal.SIGKILL, EOFError(), "outside", "ended by SIGKILL"),
        (-signal.SIGTERM, BrokenPipeError(), "outside", "ended by SIGTERM"),
        (-signal.SIGKILL, ValueError(), "scene", "ended by SIGKILL"),
        (-signal.SIGXCPU, EOFError(), "processor", "ended by SIGXCPU"),
        (-40, EOFError(), "scene", "ended by signal 40"),
        (3, EOFError(), "scene", r"ended with status 3 \(EOFError\)"),
    ],
)
async def test_the_cause_of_a_death_is_read_off_its_exit_status_and_the_error(returncode, error, cause, how):
    death = death_of(returncode, error)
    assert death.cause == cause
    with pytest.raises(type(death), match=how):
        raise death


async def test_a_worker_over_its_memory_limit_died_of_that_whatever_the_signal():
    death = death_of(-signal.SIGKILL, EOFError(), exceeded_mb=64)
    assert (death.cause, str(death)) == ("memory", "it took more than 64 MB of memory")

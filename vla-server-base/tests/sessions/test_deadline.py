"""Work within a deadline."""

import asyncio

import pytest

from vla_server_base.errors import DeadlinePassed
from vla_server_base.sessions.deadline import within_deadline

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def answer() -> int:
    return 42


@pytest.mark.parametrize("deadline_ms", [None, 60_000.0])
async def test_work_that_is_done_in_time_returns_its_result(deadline_ms):
    assert await within_deadline(answer(), deadline_ms) == 42


async def test_at_the_deadline_the_work_is_cancelled():
    was_cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    with pytest.raises(DeadlinePassed, match="no answer within the deadline of 1 ms") as raised:
        await within_deadline(work(), 1.0)
    assert was_cancelled.is_set()
    assert (raised.value.code, raised.value.status) == ("deadline_exceeded", 504)
    assert raised.value.hint


async def test_the_works_own_error_passes():
    async def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await within_deadline(fail(), 60_000.0)

"""The device thread answers all that it has taken, and says so when it cannot go on."""

import asyncio
from typing import Any, cast

import pytest
from test_engine import GatedEcho, asking, running, until

from vla_server_base.errors import ModelUnavailable, VLAError
from vla_server_base.testing import EchoAdapter

pytestmark = pytest.mark.anyio


class Odd(EchoAdapter):
    """Answers a request of seed 1 with what no policy answers."""

    def predict(self, batch):
        chunks = super().predict(batch)
        return cast(Any, None) if any(each.seed == 1 for each in batch) else chunks


async def test_a_policy_that_answers_with_no_numbers_fails_that_request_alone():
    async with running(Odd()) as engine:
        with pytest.raises(VLAError, match="the policy failed on this request"):
            await engine.predict(asking(1))
        assert (await engine.predict(asking(2))).chunks.size


async def test_a_device_thread_that_fails_beside_a_batch_answers_all_and_is_broken(monkeypatch, caplog):
    adapter = GatedEcho()
    async with running(adapter) as engine:
        first = asyncio.ensure_future(engine.predict(asking(0)))
        await until(adapter.entered.is_set)
        second = asyncio.ensure_future(engine.predict(asking(1)))
        await until(lambda: engine.num_waiting == 1)
        monkeypatch.setattr(engine._queue, "note_served", lambda *_: 1 / 0)
        adapter.gate.set()
        assert (await first).chunks.size
        with pytest.raises(ModelUnavailable, match="the device thread has failed"):
            await second
        assert engine.status.state == "broken"
    assert "ZeroDivisionError" in caplog.text

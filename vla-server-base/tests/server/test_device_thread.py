"""The device thread answers all that it has taken, and says so when it cannot go on."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from test_engine import GatedEcho, asking, num_ready, running, until

from vla_server_base.errors import ModelUnavailable, VLAError
from vla_server_base.request_context import current_client
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


class InGatedPieces(GatedEcho):
    """Gives one sample at a time."""

    def predict_in_pieces(self, policy_input):
        for row in self.predict([policy_input])[0]:
            yield row[None]


async def test_what_runs_between_the_pieces_of_a_long_request_counts_as_served():
    adapter = InGatedPieces()
    async with running(adapter) as engine:
        long = asyncio.ensure_future(engine.predict(replace(asking(1), num_samples=2)))
        await until(adapter.entered.is_set)
        current_client.set("another")
        short = asyncio.ensure_future(engine.predict(asking(2)))
        await until(lambda: num_ready(engine) == 1)
        adapter.gate.set()
        await asyncio.gather(long, short)
        assert adapter.batches == [[1], [2]]
    # The device thread has ended, and counted both.
    assert len(engine._queue._batch_seconds) == 1, "that of the single sample"

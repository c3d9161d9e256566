"""What several servers' sessions do with a store that is slow, silent or forgetful, on one event loop."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest
from shared_servers import HeldEcho

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, Task
from vla_server_base.engine.engines import Engines
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.errors import DeadlinePassed, Superseded, Unavailable
from vla_server_base.sessions.registry import Sessions
from vla_server_base.sessions.requests import StepRequest, StepResult
from vla_server_base.sessions.shared_copy import ContinuedElsewhere
from vla_server_base.sessions.step import run_step
from vla_server_base.sessions.store import MemoryStore, SessionKey, StoredSession

pytestmark = pytest.mark.anyio

LIFT = Task(instruction="lift it")


class SlowStore:
    """A MemoryStore that takes its time, and whose answers get lost now and then, as do requests to it."""

    def __init__(self, chance: random.Random, share_lost: float = 0.0):
        self.store = MemoryStore(2**26, 600.0)
        self._chance, self.share_lost = chance, share_lost

    async def load_newer(self, key: SessionKey, version: int) -> StoredSession | None:
        await self._way()
        answer = await self.store.load_newer(key, version)
        await self._way()
        return answer

    async def save(self, key: SessionKey, version: int, content: bytes | None) -> bool:
        await self._way()
        is_saved = await self.store.save(key, version, content)
        await self._way()
        return is_saved

    async def _way(self) -> None:
        await asyncio.sleep(self._chance.choice((0, 0, 0.001)))
        if self._chance.random() < self.share_lost:
            raise Unavailable("the session store did not answer in time", hint="send it again")


@pytest.fixture
async def adapter():
    return HeldEcho()


@pytest.fixture
async def engine(adapter):
    engine = InProcessEngine(adapter, ServerConfig(), "echo")
    engine.start()
    await engine.loaded()
    yield engine
    adapter.gate.set()
    await engine.close()


def servers(engine, folder, store, number: int = 2, **settings) -> list[Sessions]:
    config = ServerConfig(cache_dir=folder, **settings)
    return [Sessions(Engines(engine), config, store=store) for _ in range(number)]


def step_request(red: int, size: int = 8, **fields) -> StepRequest:
    picture = np.zeros((size, size, 3), np.uint8)
    picture[..., 0] = red
    observation = Observation(images={"primary": picture})
    return StepRequest(observation=observation, task=LIFT, **{"session_id": "arm", "seed": 7, **fields})


def content_of(result: StepResult) -> tuple:
    return result.action.actions.tolist(), result.step, result.sequence


async def eventually(sessions_of: list[Sessions], request: StepRequest, chance: random.Random) -> StepResult:
    """Send a step to one server after another, without patience, until it is answered."""
    for attempt in range(1000):
        patience_s, deadline_ms = chance.choice(((0.0005, None), (0.002, None), (1.0, None), (1.0, 1.0)))
        asked = replace(request, deadline_ms=None if attempt > 20 else deadline_ms)
        try:
            return await asyncio.wait_for(run_step(chance.choice(sessions_of), asked), patience_s)
        except (asyncio.TimeoutError, Unavailable, DeadlinePassed, ContinuedElsewhere):
            pass
    raise AssertionError("not in a thousand attempts")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "settings",
    [
        {"execution": "receding"},
        {"execution": "chunk", "execution_horizon": 3},
        {"execution": "ensemble", "ensemble_weight": 0.3},
        {"execution": "aligned"},
    ],
    ids=lambda settings: settings["execution"],
)
async def test_whatever_is_lost_on_the_way_each_step_gets_one_servers_action_once(engine, tmp_path, settings, seed):
    chance, levels = random.Random(seed), range(10, 250, 20)
    delay = {"inference_delay": 1} if settings["execution"] == "aligned" else {}
    requests = [step_request(red, sequence=n, settings=settings, **delay) for n, red in enumerate(levels)]
    (single,) = servers(engine, tmp_path, None, 1)
    expected = [content_of(await run_step(single, each)) for each in requests]
    several = servers(engine, tmp_path, SlowStore(chance, share_lost=0.1), 3)
    assert [content_of(await eventually(several, each, chance)) for each in requests] == expected


async def test_steps_that_come_at_once_to_one_server_keep_their_order_and_all_are_seen(engine, adapter, tmp_path):
    async def answers(sessions: Sessions) -> list:
        await run_step(sessions, step_request(20, sequence=0))
        adapter.gate.clear()
        asked = [asyncio.ensure_future(run_step(sessions, step_request(40 * n, sequence=n))) for n in (1, 2, 3)]
        await asyncio.wait(asked, timeout=0.2)
        adapter.gate.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [content_of(each) if isinstance(each, StepResult) else type(each) for each in found]

    chance = random.Random(0)
    (single,), (shared, _) = servers(engine, tmp_path, None, 1), servers(engine, tmp_path, SlowStore(chance))
    expected = await answers(single)
    assert expected[:2] == [Superseded, Superseded]
    assert await answers(shared) == expected


async def test_a_session_of_megabytes_goes_on_at_another_server(engine, tmp_path):
    requests = [step_request(red, 800, sequence=n) for n, red in enumerate((20, 60, 100))]
    (single,) = servers(engine, tmp_path, None, 1)
    one, other = servers(engine, tmp_path, MemoryStore(2**26, 600.0))
    expected = [content_of(await run_step(single, each)) for each in requests]
    found = [content_of(await run_step(of, each)) for of, each in zip((one, other, one), requests, strict=True)]
    assert found == expected


async def test_a_session_that_does_not_fit_into_the_store_is_not_answered(engine, tmp_path):
    one, _ = servers(engine, tmp_path, MemoryStore(2**20, 600.0))
    with pytest.raises(Unavailable, match="the session store has room for"):
        await run_step(one, step_request(20, 800))


async def test_a_server_without_a_store_asks_none_and_saves_nothing(engine, tmp_path):
    (single,) = servers(engine, tmp_path, None, 1)
    await run_step(single, step_request(20))
    assert single.of("arm").shared is None


async def test_a_copy_is_kept_up_to_date_however_long_its_robot_was_elsewhere(engine, tmp_path):
    now = [0.0]
    store, config = MemoryStore(2**26, 600.0, lambda: now[0]), ServerConfig(cache_dir=tmp_path, session_idle_s=600.0)
    one, other = (Sessions(Engines(engine), config, lambda: now[0], store=store) for _ in range(2))
    await run_step(one, step_request(20))
    for _ in range(4):
        now[0] += 400.0
        await run_step(other, step_request(60))
    assert one.num_held == 0
    assert (await run_step(one, step_request(100))).step == 5

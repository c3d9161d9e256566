"""The engine alone: loading, the queue, batches, cancellation, shutdown."""

import asyncio
import contextlib
import threading
from collections.abc import Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, PolicyInput, PolicyRequest, Task
from vla_server_base.engine import device_thread
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.errors import ModelUnavailable, Overloaded, Unavailable, VLAError
from vla_server_base.sessions.action_chunking import ObservationWindow
from vla_server_base.testing import EchoAdapter
from vla_server_base.testing.echo import noise

BLACK = Observation(images={"primary": np.zeros((8, 8, 3), np.uint8)})
WINDOW = ObservationWindow(2).append(BLACK)
TASK = Task(instruction="go")
DEADLINE_S = 10.0


def asking(seed: int, *, step: int = 0, task: Task = TASK) -> PolicyRequest:
    return PolicyRequest(window=WINDOW, task=task, seed=seed, step=step)


class GatedEcho(EchoAdapter):
    """Answers only while `gate` is open; `batches` are the seeds of each batch that reached the device."""

    def __init__(self):
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []

    def warm_up_inputs(self) -> Iterable[PolicyInput]:
        return []

    def predict(self, batch):
        self.batches.append([policy_input.seed for policy_input in batch])
        self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        return super().predict(batch)


@asynccontextmanager
async def running(adapter, precedence=None, **settings):
    engine = InProcessEngine(adapter, ServerConfig(**settings), "echo", precedence=precedence)
    engine.start()
    try:
        with contextlib.suppress(ModelUnavailable):
            await engine.loaded()
        yield engine
    finally:
        await engine.close()


async def until(condition):
    async def poll():
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(poll(), DEADLINE_S)


@asynccontextmanager
async def with_the_device_busy(**settings):
    """An engine whose device works on a request with seed 0 until the adapter's gate opens."""
    adapter = GatedEcho()
    async with running(adapter, **settings) as engine:
        first = asyncio.ensure_future(engine.predict(asking(0)))
        await until(adapter.entered.is_set)
        try:
            yield engine, adapter, first
        finally:
            adapter.gate.set()


def num_ready(engine) -> int:
    return sum(job.policy_input is not None for job in engine._queue.waiting)


def gripper(prediction) -> float:
    return float(prediction.chunks[0, 0, 6])


def test_what_waits_goes_to_the_device_as_one_batch_and_each_gets_its_own():
    async def scenario():
        async with with_the_device_busy(max_batch=64) as (engine, adapter, first):
            others = [asyncio.ensure_future(engine.predict(asking(seed))) for seed in (1, 2, 3)]
            await until(lambda: num_ready(engine) == 3)
            adapter.gate.set()
            answers = await asyncio.gather(first, *others)
        assert adapter.batches == [[0], [1, 2, 3]]
        assert [gripper(answer) for answer in answers] == [noise(seed) for seed in range(4)]
        assert all(answer.queue_ms >= 0 and answer.infer_ms > 0 for answer in answers)

    asyncio.run(scenario())


def test_a_full_queue_refuses_and_takes_again_once_there_is_room():
    async def scenario():
        async with with_the_device_busy(max_queue=2) as (engine, adapter, first):
            waiting = [asyncio.ensure_future(engine.predict(asking(seed))) for seed in (1, 2)]
            await until(lambda: num_ready(engine) == 2)
            with pytest.raises(Overloaded, match="2 waiting") as refusal:
                await engine.predict(asking(3))
            assert refusal.value.hint
            adapter.gate.set()
            await asyncio.gather(first, *waiting)
            assert gripper(await engine.predict(asking(3))) == noise(3)

    asyncio.run(scenario())


def test_a_cancelled_request_never_reaches_the_device_and_leaves_its_place():
    async def scenario():
        async with with_the_device_busy(max_queue=1) as (engine, adapter, first):
            given_up = asyncio.ensure_future(engine.predict(asking(1)))
            await until(lambda: num_ready(engine) == 1)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            kept = asyncio.ensure_future(engine.predict(asking(2)))
            await until(lambda: num_ready(engine) == 1)
            adapter.gate.set()
            await asyncio.gather(first, kept)
        assert adapter.batches == [[0], [2]]

    asyncio.run(scenario())


def test_a_request_cancelled_on_the_device_harms_nobody():
    async def scenario():
        async with with_the_device_busy() as (engine, adapter, first):
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            adapter.gate.set()
            assert gripper(await engine.predict(asking(1))) == noise(1)

    asyncio.run(scenario())


def test_closing_answers_what_waits_and_finishes_what_runs():
    async def scenario():
        async with with_the_device_busy() as (engine, adapter, first):
            waiting = asyncio.ensure_future(engine.predict(asking(1)))
            await until(lambda: num_ready(engine) == 1)
            closing = asyncio.ensure_future(engine.close())
            with pytest.raises(Unavailable, match="shutting down"):
                await waiting
            with pytest.raises(Unavailable, match="shutting down"):
                await engine.predict(asking(2))
            adapter.gate.set()
            assert gripper(await first) == noise(0)
            await closing
        assert adapter.batches == [[0]]
        assert not engine._device.thread.is_alive()

    asyncio.run(scenario())


def test_a_request_that_the_policy_fails_on_is_told_so_and_the_next_is_answered(caplog):
    class Fussy(EchoAdapter):
        def predict(self, batch):
            if any(policy_input.seed == 13 for policy_input in batch):
                raise ZeroDivisionError("secret inner workings")
            return super().predict(batch)

    async def scenario():
        async with running(Fussy()) as engine:
            with pytest.raises(VLAError, match="the policy failed on this request") as failure:
                await engine.predict(asking(13))
            assert (failure.value.code, failure.value.status) == ("internal", 500)
            assert gripper(await engine.predict(asking(1))) == noise(1)

    asyncio.run(scenario())
    assert "secret inner workings" in caplog.text


def test_a_request_that_fails_does_not_take_its_batch_mates_along():
    class Fussy(GatedEcho):
        def predict(self, batch):
            answers = super().predict(batch)
            if any(policy_input.seed == 13 for policy_input in batch):
                raise ZeroDivisionError
            return answers

    async def scenario():
        adapter = Fussy()
        async with running(adapter) as engine:
            first = asyncio.ensure_future(engine.predict(asking(0)))
            await until(adapter.entered.is_set)
            others = [asyncio.ensure_future(engine.predict(asking(seed))) for seed in (12, 13, 14)]
            await until(lambda: num_ready(engine) == 3)
            adapter.gate.set()
            await first
            good, bad, also_good = await asyncio.gather(*others, return_exceptions=True)
        assert (gripper(good), gripper(also_good)) == (noise(12), noise(14))
        assert isinstance(bad, VLAError)

    asyncio.run(scenario())


def test_an_answer_that_is_not_finite_never_reaches_a_robot():
    class Diverging(EchoAdapter):
        def predict(self, batch):
            return [
                chunks * (np.nan if each.seed == 1 else 1)
                for each, chunks in zip(batch, super().predict(batch), strict=True)
            ]

    async def scenario():
        async with running(Diverging()) as engine:
            with pytest.raises(VLAError, match="not finite"):
                await engine.predict(asking(1))

    asyncio.run(scenario())


def test_an_action_that_un_normalizing_makes_infinite_never_reaches_a_robot():
    class Overflowing(EchoAdapter):
        def postprocess_action(self, chunk, dataset, action_format):
            action = super().postprocess_action(chunk, dataset, action_format)
            return replace(action, actions=np.full_like(action.actions, np.inf))

    async def scenario():
        async with running(Overflowing()) as engine:
            prediction = await engine.predict(asking(0))
            with pytest.raises(VLAError, match="not finite"):
                engine.form_action(prediction.chunks[0], "echo", "standard")

    asyncio.run(scenario())


def test_a_policy_whose_answers_are_not_finite_is_never_loaded():
    class Damaged(EchoAdapter):
        def predict(self, batch):
            return [np.full_like(chunks, np.inf) for chunks in super().predict(batch)]

    async def scenario():
        async with running(Damaged()) as engine:
            assert engine.status.state == "broken"
            assert "its weights are damaged" in str(engine.status.reason)

    asyncio.run(scenario())


def test_the_same_instruction_is_preprocessed_once_and_another_goal_picture_is_another_task():
    class Counting(EchoAdapter):
        def __init__(self):
            self.tasks = []

        def preprocess_instruction(self, task):
            self.tasks.append(task)
            return super().preprocess_instruction(task)

    def goal(level: int) -> Task:
        return Task(instruction="go", goal_images={"primary": np.full((2, 2, 3), level, np.uint8)})

    async def scenario():
        adapter = Counting()
        async with running(adapter) as engine:
            adapter.tasks.clear()
            for task in (TASK, Task(instruction="go"), goal(1), goal(1), goal(2)):
                await engine.predict(asking(0, task=task))
        assert len(adapter.tasks) == 3

    asyncio.run(scenario())


def test_what_is_asked_during_the_warm_up_is_answered_before_the_model_counts_as_loaded():
    adapter = GatedEcho()
    (blank,) = EchoAdapter.warm_up_inputs(adapter)
    adapter.warm_up_inputs = lambda: [replace(blank, seed=seed) for seed in (10, 11, 12)]

    async def scenario():
        engine = InProcessEngine(adapter, ServerConfig(), "echo")
        engine.start()
        await until(adapter.entered.is_set)
        asked = asyncio.ensure_future(engine.predict(asking(0)))
        await until(lambda: num_ready(engine))
        assert engine.status.state == "loading"
        assert "being warmed up" in engine.status.reason
        adapter.gate.set()
        await asked
        await until(lambda: engine.status.state == "loaded")
        await engine.close()

    asyncio.run(scenario())
    assert adapter.batches == [[10], [0], [11], [12]]


def test_who_waits_while_the_warm_up_fails_is_told_why():
    adapter = GatedEcho()
    (blank,) = EchoAdapter.warm_up_inputs(adapter)

    def fail_at_the_second():
        yield blank
        raise ModelUnavailable("it does not fit into memory", hint="use a smaller policy")

    adapter.warm_up_inputs = fail_at_the_second

    async def scenario():
        engine = InProcessEngine(adapter, ServerConfig(), "echo")
        engine.start()
        await until(adapter.entered.is_set)
        waiting = [asyncio.ensure_future(engine.predict(asking(0))) for _ in range(2)]
        await asyncio.sleep(0)
        adapter.gate.set()
        await until(lambda: engine.status.state == "broken")
        for asked in (*waiting, engine.predict(asking(0))):
            with pytest.raises(ModelUnavailable, match="does not fit into memory"):
                await asked
        await engine.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            ModelUnavailable("no folder /models/x", hint="set OCTO_MODEL"),
            "no folder /models/x; set OCTO_MODEL",
        ),
        (
            KeyError("secret"),
            "the model could not be loaded; see the server's log",
        ),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why_without_internals(failure, reason, caplog):
    class Broken(EchoAdapter):
        def load_model(self, model_id, device, cache_dir):
            raise failure

    async def scenario():
        async with running(Broken()) as engine:
            assert (engine.status.state, engine.status.reason) == ("broken", reason)
            with pytest.raises(ModelUnavailable) as refusal:
                await engine.predict(asking(0))
            assert refusal.value.message == reason

    asyncio.run(scenario())
    assert "could not be loaded" in caplog.text or "is not available" in caplog.text


def test_an_engine_that_was_never_started_can_be_closed():
    asyncio.run(InProcessEngine(EchoAdapter(), ServerConfig(), "echo").close())


class PreparingEcho(EchoAdapter):
    """Prepares in three pieces; `done` is what the device did, in its order."""

    def __init__(self):
        self.done: list[str] = []
        self.gate = threading.Event()

    def warm_up_inputs(self):
        return []

    def predict(self, batch):
        self.done += [f"answered {policy_input.step}" for policy_input in batch]
        return super().predict(batch)

    def prefetch(self, policy_input):
        for piece in range(3):
            self.done.append(f"piece {piece} for {policy_input.step}")
            assert self.gate.wait(DEADLINE_S)
            if policy_input.step == 13:
                raise RuntimeError("out of memory")
            yield


def test_the_device_prepares_while_it_is_idle_and_a_request_waits_for_one_piece_at_most():
    async def scenario():
        adapter = PreparingEcho()
        async with running(adapter) as engine:
            engine.prefetch(asking(0, step=1))
            await until(lambda: adapter.done == ["piece 0 for 1"])
            request = asyncio.ensure_future(engine.predict(asking(0, step=7)))
            await until(lambda: num_ready(engine) == 1)
            adapter.gate.set()
            await request
            await until(lambda: len(adapter.done) == 4)
        assert adapter.done == ["piece 0 for 1", "answered 7", "piece 1 for 1", "piece 2 for 1"]

    asyncio.run(scenario())


def test_what_is_not_wanted_any_more_is_left_undone_and_a_failure_harms_nobody():
    async def scenario():
        adapter = PreparingEcho()
        async with running(adapter) as engine:
            first = engine.prefetch(asking(0, step=1))
            await until(lambda: adapter.done == ["piece 0 for 1"])
            engine.prefetch(asking(0, step=2)).cancel()
            engine.prefetch(asking(0, step=13))
            engine.prefetch(asking(0, step=3))
            first.cancel()
            adapter.gate.set()
            # In which order the two come is left to the threads that preprocess them.
            await until(lambda: {"piece 0 for 13", "piece 2 for 3"} <= set(adapter.done))
            assert gripper(await engine.predict(asking(4))) == noise(4)
        pieces = [f"piece {piece} for 3" for piece in range(3)]
        assert [done for done in adapter.done if "13" not in done] == ["piece 0 for 1", *pieces, "answered 0"]
        assert adapter.done.count("piece 0 for 13") == 1
        assert "piece 1 for 13" not in adapter.done

    asyncio.run(scenario())


def test_what_a_busy_device_never_comes_to_does_not_pile_up():
    async def scenario():
        async with with_the_device_busy() as (engine, adapter, first):
            for step in range(40):
                prefetch = engine.prefetch(asking(0, step=step))
                await until(lambda each=prefetch: each in engine._queue.prefetches.waiting)
                assert len(engine._queue.prefetches.waiting) == 1
                prefetch.cancel()
            adapter.gate.set()
            await first

    asyncio.run(scenario())


class RareEcho(EchoAdapter):
    """Has two inputs for the background, of seeds 100 and 101; `seeds` are of what reached the device, in its order."""

    def __init__(self, failing_seed: int | None = None):
        self.seeds: list[int] = []
        self.failing_seed = failing_seed

    def background_warm_up_inputs(self):
        for seed in (100, 101):
            yield replace(next(iter(self.warm_up_inputs())), seed=seed)

    def predict(self, batch):
        self.seeds += [policy_input.seed for policy_input in batch]
        if self.failing_seed in self.seeds:
            raise RuntimeError("out of memory")
        return super().predict(batch)


def test_what_is_rare_is_compiled_when_nobody_asks_and_not_between_a_robots_requests(monkeypatch):
    monkeypatch.setattr(device_thread, "QUIET_S", 0.2)

    async def scenario():
        adapter = RareEcho()
        async with running(adapter) as engine:
            await engine.predict(asking(7))
            await until(lambda: adapter.seeds[-1] == 101)
            assert adapter.seeds == [0, 7, 100, 101]
            assert gripper(await engine.predict(asking(4))) == noise(4)
        monkeypatch.setattr(device_thread, "QUIET_S", 1.0)
        adapter = RareEcho()
        async with running(adapter) as engine:
            for seed in range(1, 100):
                await engine.predict(asking(seed))
                await asyncio.sleep(0.02)
            assert adapter.seeds == list(range(100))

    asyncio.run(scenario())


def test_a_failure_with_what_is_rare_harms_nobody(monkeypatch, caplog):
    monkeypatch.setattr(device_thread, "QUIET_S", 0.05)

    async def scenario():
        adapter = RareEcho(failing_seed=100)
        async with running(adapter) as engine:
            await until(lambda: adapter.seeds[-1] == 100)
            adapter.failing_seed = None
            assert gripper(await engine.predict(asking(4))) == noise(4)
        assert 101 not in adapter.seeds

    asyncio.run(scenario())
    assert "background warm-up" in caplog.text

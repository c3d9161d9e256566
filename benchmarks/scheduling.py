"""Goodput by the order in which requests are served: answers within their deadline, of 64 robots on one engine.

    cd vla-servers/octo-small && uv run python ../../benchmarks/scheduling.py [--model bundled://tabletop]

Robots of four kinds share a real engine in this process, without HTTP. How long a request takes is measured before each
row, with eight requests at a time; from it follow the robots' periods and deadlines. `--model sleep` is a policy that
takes 10 ms for each request and no processor. Each order meets the same robots, in turns. Prints Markdown: measured,
and simulated by `fleet_simulation.py`.
"""

import argparse
import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from arrival_order import ArrivalOrder
from fleet_simulation import Replicas, Service, simulate
from robots import INSTRUCTION, Asked, Beat, in_time, latency_ms
from server import add_figures, machine

from octo_service.adapter import OctoSmallAdapter
from vla_server_base.adapter import VLAModelAdapter
from vla_server_base.config import ServerConfig
from vla_server_base.contract import Observation, PolicyInput, PolicyRequest, Task
from vla_server_base.engine.batches import RequestQueue
from vla_server_base.engine.engine import Engine, pad_window
from vla_server_base.engine.in_process import InProcessEngine
from vla_server_base.errors import VLAError
from vla_server_base.request_context import current_client
from vla_server_base.sessions.deadline import within_deadline
from vla_server_base.testing import EchoAdapter

LOADS = (0.7, 0.9, 1.1, 1.3)
NUM_ROBOTS = 64
WARM_UP_S = 2.0
SLEEP_S = 0.01
MAX_QUEUE = 4 * NUM_ROBOTS
# Periods and deadlines of the four kinds, in times that a request takes; sixteen of each are a load of 1.
MIXES = {
    "patient": ((40, 40), (80, 20), (80, 10), (80, 5)),
    "tight": ((40, 8), (80, 4), (80, 3), (80, 2)),
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """A way to choose what is served next; without deadlines the engine knows none, and answers late."""

    name: str
    make_queue: Callable[[Callable[[], float]], RequestQueue]
    knows_deadlines: bool = True


ORDERS = (
    Order(
        name="FIFO",
        make_queue=lambda clock: RequestQueue(MAX_QUEUE, order=ArrivalOrder(), clock=clock),
        knows_deadlines=False,
    ),
    Order(
        name="FIFO, none past its deadline",
        make_queue=lambda clock: RequestQueue(MAX_QUEUE, order=ArrivalOrder(), refuses_hopeless=False, clock=clock),
    ),
    Order(
        name="deadline, none past its own",
        make_queue=lambda clock: RequestQueue(MAX_QUEUE, refuses_hopeless=False, clock=clock),
    ),
    Order(name="deadline, none that must be late", make_queue=lambda clock: RequestQueue(MAX_QUEUE, clock=clock)),
)


class Sleeping(EchoAdapter):
    """A policy whose device takes a fixed time for each request."""

    def predict(self, batch: Sequence[PolicyInput]) -> list[Any]:
        """Return the echo, after a while."""
        time.sleep(SLEEP_S * len(batch))
        return list(super().predict(batch))


def main() -> None:
    """Measure and simulate every order at every load, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sleep")
    parser.add_argument("--mixes", nargs="+", choices=MIXES, default=list(MIXES))
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.model}, {NUM_ROBOTS} robots, {arguments.rounds} rounds of {arguments.seconds:g} s.")
    print("Answers in time a second (simulated); p99 of all answers in ms.\n")
    print(f"| robots | load | ms a request | asked /s | {' | '.join(order.name for order in ORDERS)} |")
    print("|" + "---|" * (4 + len(ORDERS)))
    found = asyncio.run(_compare_all(arguments))
    add_figures(arguments.json, f"scheduling {arguments.model}", found)


async def _compare_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    async with AsyncExitStack() as stack:
        engines = {
            order: await stack.enter_async_context(_running(arguments.model, order.make_queue(time.monotonic)))
            for order in ORDERS
        }
        for mix, load in itertools.product(arguments.mixes, arguments.loads):
            row = await _compare(engines, mix, load, arguments)
            found.append(row)
            cells = [mix, f"{load:g}", f"{row['each_ms']:.1f}", f"{row['asked']:.1f}"]
            cells += ["{goodput:.1f} ({simulated:.1f}); {p99_ms:.0f}".format(**each) for each in row["orders"].values()]
            print(f"| {' | '.join(cells)} |", flush=True)
    return found


async def _compare(
    engines: Mapping[Order, Engine], mix: str, load: float, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Measure and simulate all orders for the same robots, in turns; how long a request takes is measured anew."""
    calibrated = await _calibrate(next(iter(engines.values())))
    beats = beats_of(mix, load, calibrated.each_s)
    asked: dict[Order, list[Asked]] = {order: [] for order in ORDERS}
    for number in range(arguments.rounds):
        for order in ORDERS[:: -1 if number % 2 else 1]:
            asked[order] += await _measure(engines[order], order, beats, arguments.seconds)
    hop_s = max(0.0, calibrated.alone_s - calibrated.each_s)
    service, counted_s = Service(device_s=calibrated.device_s, hop_s=(hop_s,)), arguments.seconds - WARM_UP_S
    orders = {}
    for order, measured in asked.items():
        simulated = simulate(
            beats,
            service,
            Replicas(),
            seconds=arguments.seconds,
            warm_up_s=WARM_UP_S,
            make_queue=order.make_queue,
            tells_deadline=order.knows_deadlines,
        ).asked
        orders[order.name] = {
            "goodput": len(in_time(measured, beats)) / counted_s / arguments.rounds,
            "simulated": len(in_time(simulated, beats)) / counted_s,
            "p99_ms": latency_ms(measured, 99),
            "simulated_p99_ms": latency_ms(simulated, 99),
            "worst_kind": worst_kind(measured, beats),
        }
    asked_per_s = sum(1 / beat.period_s for beat in beats)
    return {"robots": mix, "load": load, "each_ms": 1e3 * calibrated.each_s, "asked": asked_per_s, "orders": orders}


def beats_of(mix: str, load: float, each_s: float) -> list[Beat]:
    """Return the beats of the robots of a mix that ask for `load` times what the device can."""
    chance = random.Random(0)
    kinds = [(period * each_s / load, deadline * each_s) for period, deadline in MIXES[mix]]
    return [
        Beat(period_s=period, deadline_s=deadline, phase_s=chance.uniform(0, period))
        for period, deadline in itertools.islice(itertools.cycle(kinds), NUM_ROBOTS)
    ]


def worst_kind(asked: Sequence[Asked], beats: Sequence[Beat]) -> float:
    """Return the least part that was in time of the observations of one kind of robot."""
    shares = []
    for kind in range(4):
        own = [each for each in asked if each.robot % 4 == kind]
        shares.append(len(in_time(own, beats)) / len(own))
    return min(shares)


@asynccontextmanager
async def _running(model: str, queue: RequestQueue) -> AsyncIterator[Engine]:
    adapter: VLAModelAdapter = Sleeping() if model == "sleep" else OctoSmallAdapter()
    engine = InProcessEngine(adapter, ServerConfig(max_batch=1), model, queue=queue)
    engine.start()
    try:
        await engine.loaded()
        # Programs that requests seldom need are compiled after a second without one.
        await asyncio.sleep(0.0 if model == "sleep" else 8.0)
        yield engine
    finally:
        await engine.close()


def _requests(engine: Engine) -> Callable[[int], PolicyRequest]:
    spec, random_ = engine.spec, np.random.default_rng(0)
    camera = spec.cameras[0]
    pictures = random_.integers(0, 256, (10, camera.height, camera.width, 3), np.uint8)
    windows = [pad_window([Observation(images={camera.name: picture})], spec.window) for picture in pictures]
    return lambda step: PolicyRequest(window=windows[step % 10], task=Task(instruction=INSTRUCTION), seed=0, step=step)


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What requests take [s]: one alone, each while eight wait, and the device for each of those.

    The device's times have what lies between two of them spread over them: `each_s` is their mean.
    """

    alone_s: float
    each_s: float
    device_s: list[float]


async def _calibrate(engine: Engine) -> Calibrated:
    request, alone, ended, infer = _requests(engine), [], [], []
    for step in range(60):
        began = time.perf_counter()
        await engine.predict(request(step))
        alone.append(time.perf_counter() - began)

    async def ask_on() -> None:
        for step in range(40):
            infer.append((await engine.predict(request(step))).infer_ms / 1e3)
            ended.append(time.perf_counter())

    await asyncio.gather(*(ask_on() for _ in range(8)))
    counted = slice(16, -16)
    each_s = float(np.mean(np.diff(ended[counted])))
    between_s = each_s - np.mean(infer[counted])
    device_s = (np.array(infer[counted]) + between_s).tolist()
    return Calibrated(alone_s=float(np.median(alone[10:])), each_s=each_s, device_s=device_s)


async def _measure(engine: Engine, order: Order, beats: Sequence[Beat], seconds: float) -> list[Asked]:
    request, asked = _requests(engine), []
    began = time.perf_counter()
    robots = []
    for number, beat in enumerate(beats):
        context = copy_context()
        context.run(current_client.set, f"robot {number}")
        acting = _act(engine, request, number, beat, began, seconds, asked, order.knows_deadlines)
        robots.append(context.run(asyncio.ensure_future, acting))
    await asyncio.gather(*robots)
    return [each for each in asked if each.at_s >= WARM_UP_S]


async def _act(
    engine: Engine,
    request: Callable[[int], PolicyRequest],
    number: int,
    beat: Beat,
    began: float,
    seconds: float,
    asked: list[Asked],
    knows_deadlines: bool,
) -> None:
    """Ask at each beat, as `_Robot.act` of `robots.py` does."""
    step = 0
    while (due_s := beat.phase_s + step * beat.period_s) < seconds:
        late_s = time.perf_counter() - began - due_s
        if late_s > beat.period_s:
            asked.append(Asked(at_s=due_s, robot=number, came="skipped"))
        else:
            await asyncio.sleep(max(0.0, -late_s))
            sent, came = time.perf_counter(), "ok"
            try:
                answer = engine.predict(request(step))
                await within_deadline(answer, 1e3 * beat.deadline_s if knows_deadlines else None)
            except VLAError as error:
                came = error.code
            asked.append(Asked(at_s=sent - began, robot=number, came=came, latency_s=time.perf_counter() - sent))
        step += 1


if __name__ == "__main__":
    main()

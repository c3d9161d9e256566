"""A service on a cluster of two nodes on this machine: what its path costs, and what robots notice of a loss.

    cd vla-server-base && export PYTHONPATH=tests/fleet:tests/protocols RAY_AUTH_MODE=disabled
    .venv/bin/python ../benchmarks/cluster.py

The policy, the robots and the losses are those of the tests; the cluster's workers import them, too.
One robot asks a server whose policy is in its own process, and one of a fleet; then 64 robots ask each. Both have the
same policy, which takes 5 ms. The parts of the fleet's path are measured one by one. With --losses 16 robots of three
protocols act while processes and a node are lost, and each action is compared with one server's.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np

import vla_server_base.fleet  # noqa: F401  before Ray, which then reads what is set there

# isort: split
from disturbed_fleet import EVENTS, NAME, NUM_SESSIONS, Fleet, check_equal_to_one_server, report, running, wait_until
from fleet_robots import robots_of
from one_server import one_server
from ray import serve
from two_nodes import two_nodes
from window_echo import EchoSettings

from vla_server_base.contract import Observation, PolicyRequest, Task
from vla_server_base.engine.engine import pad_window
from vla_server_base.fleet.cluster import connected, start_serve
from vla_server_base.fleet.model_deployment import MODEL
from vla_server_base.fleet.origin import Origin
from vla_server_base.fleet.session_stores import ClusterSessionStore
from vla_server_base.request_inputs import encode_png

SIZE = 224


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="steps of the robot that asks alone")
    parser.add_argument("--robots", type=int, default=64, help="robots that ask at the same time")
    parser.add_argument("--seconds", type=float, default=15.0, help="for how long they ask")
    parser.add_argument("--hz", type=float, default=1.0, help="how often each asks a second")
    parser.add_argument("--deadline-ms", type=float, default=200.0, help="by when an answer is of use")
    parser.add_argument("--losses", action="store_true", help="only lose processes and a node, and compare the actions")
    arguments = parser.parse_args()
    with two_nodes() as cluster, connected(str(cluster.address)):
        start_serve()
        fleet = Fleet(cluster)
        fleet.deploy(EchoSettings())
        wait_until(fleet.is_whole, "the fleet is whole")
        if arguments.losses:
            lose_and_compare(fleet)
        else:
            with one_server(EchoSettings.predict_s) as url:
                asyncio.run(compare(arguments, {"one process": url, "fleet": fleet.url}))
        fleet.end()
        serve.shutdown()


def lose_and_compare(fleet: Fleet) -> None:
    """Print, for each loss, the longest gap between two answers; every action is that of one server."""
    print(f"{NUM_SESSIONS} robots of three protocols at 5 Hz; all their actions are compared with those of one server.")
    for event in EVENTS:
        fleet.make_whole()
        robots = robots_of(fleet.url, NUM_SESSIONS, event.__name__)
        with running(robots):
            event(fleet)
            wait_until(fleet.is_whole, "the fleet is whole again")
        report(event.__name__.replace("_", " "), robots)
        check_equal_to_one_server(robots)


async def compare(arguments: argparse.Namespace, urls: dict[str, str]) -> None:
    """Print the times of one robot and of many, and of the parts of the fleet's path."""
    print("| one robot, a step | p50 ms | p99 ms |\n|---|---|---|")
    for name, url in urls.items():
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await timed(arguments.steps // 4, lambda step, client=client: ask(client, "warm-up", step))
            times = await timed(arguments.steps, lambda step, client=client: ask(client, "one", step))
        print_row(name, times)
    for name, times in (await parts(arguments.steps)).items():
        print_row(f"- {name}", times)
    print(
        f"\n| {arguments.robots} robots at {arguments.hz:g} Hz | answers /s | within {arguments.deadline_ms:g} ms /s"
        " | p50 ms | p99 ms |\n|---|---|---|---|---|"
    )
    for name, url in urls.items():
        times = await many(url, arguments)
        in_time = np.count_nonzero(times <= arguments.deadline_ms)
        rates = f"{len(times) / arguments.seconds:.1f} | {in_time / arguments.seconds:.1f}"
        print(f"| {name} | {rates} | {np.percentile(times, 50):.1f} | {np.percentile(times, 99):.1f} |", flush=True)


async def parts(num: int) -> dict[str, np.ndarray]:
    """Measure what a step does on the cluster: ask a replica, look into the stores, save in both."""
    model = serve.get_deployment_handle(MODEL, NAME)
    description = await model.describe.remote()
    images = {"primary": np.zeros((SIZE, SIZE, 3), np.uint8)}
    window = pad_window([Observation(images=images)] * 2, 2)
    request = PolicyRequest(window=window, task=Task(instruction="go"), seed=0)
    origin = Origin.current(description.fingerprint)
    store, content = ClusterSessionStore(NAME, 2, 2**28, 600.0), bytes(2 * images["primary"].nbytes)
    handle = model.options(session_id="parts")
    measured = {
        "a replica's answer, 5 ms of it the policy's": lambda _: handle.predict.remote(origin, request),
        "the look into both stores": lambda step: store.load_newer(("", "parts"), step),
        "the save in both stores": lambda step: store.save(("", "parts"), step + 1, content),
    }
    return {name: await timed(num, call) for name, call in measured.items()}


async def many(url: str, arguments: argparse.Namespace) -> np.ndarray:
    """Return how long each answer to one of many robots took [ms]."""
    until, period_s = time.monotonic() + arguments.seconds, 1 / arguments.hz

    async def robot(number: int) -> list[float]:
        times: list[float] = []
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await asyncio.sleep(period_s * number / arguments.robots)
            due = time.monotonic()
            while due < until:
                await ask(client, f"many-{number}", len(times))
                times.append(1e3 * (time.monotonic() - due))
                due = max(due + period_s, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
        return times

    return np.concatenate(await asyncio.gather(*(robot(number) for number in range(arguments.robots))))


BODY = {"image": encode_png(np.zeros((SIZE, SIZE, 3), np.uint8)), "instruction": "go"}


async def ask(client: httpx.AsyncClient, session: str, step: int) -> None:
    """Do a step of a session."""
    body = json.dumps({**BODY, "session_id": session, "sequence": step})
    (await client.post("/predict", content=body, headers={"Content-Type": "application/json"})).raise_for_status()


async def timed(num: int, call: Callable[[int], Awaitable[Any]]) -> np.ndarray:
    """Return how long each of so many calls takes [ms]."""
    times = []
    for step in range(num):
        started = time.perf_counter()
        await call(step)
        times.append(1e3 * (time.perf_counter() - started))
    return np.array(times)


def print_row(name: str, times: np.ndarray) -> None:
    """Print the row of a table."""
    print(f"| {name} | {np.percentile(times, 50):.1f} | {np.percentile(times, 99):.1f} |", flush=True)


if __name__ == "__main__":
    main()

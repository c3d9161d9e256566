"""How many machines a fleet of robots needs, what saturates first, and what it costs: a simulation of a cluster.

    cd vla-servers/octo-small && uv run python ../../benchmarks/fleet.py [--ray]
    cd vla-servers/octo-small && uv run python ../../benchmarks/fleet.py --validate [--model bundled://tabletop]

What a request costs a processor is measured first, on this machine (`fleet_costs.py`); the device's times are those of
`POLICIES`. One model replica with its robots and their part of the rest is simulated, with more and more robots, until
one of them is loaded to `--target` or an answer in a hundred is late. The others are the same; what all share is
computed. "By hashing" is how many model replicas it would take if each robot went where Ray Serve's ring of hashes puts
its session, and never elsewhere. `--validate` compares simulation and measurement of a whole server on this machine.
Prints Markdown.
"""

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fleet_costs import WINDOW_BYTES, Costs, measure_costs
from fleet_simulation import NUM_COPIES, Replicas, Service, Simulated, simulate
from fleet_validation import add_options, validate
from robots import Beat, in_time, latency_ms
from server import add_figures, machine

IN_TIME = 0.99
CORES_OF_MODEL = 2
"""Of a model replica's host: one runs Python, the other what needs no Python; a policy without a GPU has both."""

REPORTS_PER_S = 0.3
"""Of each replica to the head: its health, its load and its handles' load, each every 10 s (Ray Serve 2.60)."""

MAX_HASHED = 5000
SECONDS = 6.0
NETWORK_S = tuple(random.Random(0).lognormvariate(math.log(0.003), 0.4) for _ in range(2000))
"""One way between robot and cluster: 3 ms as a median, 8 ms at p99. An assumption."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy on a device: how long a batch takes there, and where that is from."""

    name: str
    first_s: float
    each_more_s: float
    max_batch: int
    has_gpu: bool
    source: str

    @property
    def most_per_second(self) -> float:
        """How many requests a second the device answers in full batches."""
        return self.max_batch / (self.first_s + (self.max_batch - 1) * self.each_more_s)


POLICIES = (
    Policy(
        name="Octo-Small, a GPU",
        first_s=0.003,
        each_more_s=0.0004,
        max_batch=64,
        has_gpu=True,
        source="assumed: launches of one pass, and the arithmetic of each further window at about 40 TFLOP/s",
    ),
    Policy(
        name="a policy of 3 billion parameters, a GPU",
        first_s=0.06,
        each_more_s=0.01,
        max_batch=16,
        has_gpu=True,
        source="assumed",
    ),
    Policy(
        name="Octo-Small, two cores",
        first_s=0.175,
        each_more_s=0.0,
        max_batch=1,
        has_gpu=False,
        source="measured: docs/performance.md, window 2, primary",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Robots:
    """What a robot does: it executes `num_actions` of a chunk, and asks when `num_left` of them are left."""

    rate_hz: float
    num_actions: int
    num_left: int
    image_bytes: int

    @property
    def period_s(self) -> float:
        """The time between two requests."""
        return self.num_actions / self.rate_hz

    @property
    def deadline_s(self) -> float:
        """When the robot has executed all that it has."""
        return self.num_left / self.rate_hz


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an hour costs, in any currency: examples, not a provider's."""

    gpu: float
    core: float


def main() -> None:
    """Measure, size and simulate; or validate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", type=int, nargs="+", default=[10, 1000, 100_000])
    parser.add_argument("--rate-hz", type=float, default=5.0, help="of the robot's control loop")
    parser.add_argument("--actions", type=int, default=4, help="of each chunk that a robot executes")
    parser.add_argument("--left", type=int, default=2, help="how many it still has when it asks")
    parser.add_argument("--image-kb", type=float, default=197.0, help="of a request's images")
    parser.add_argument("--gpu-hour", type=float, default=2.0, help="price of a GPU for an hour, an example")
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of a core for an hour, an example")
    parser.add_argument("--link-gbit", type=float, default=25.0, help="of a node's network")
    parser.add_argument("--report-ms", type=float, default=1.0, help="what a report costs the head, an assumption")
    parser.add_argument("--node-cores", type=int, default=16)
    parser.add_argument("--target", type=float, default=0.6, help="the largest load of a replica")
    parser.add_argument("--ray", action="store_true", help="measure what a window costs between processes, by Ray")
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    add_options(parser)
    arguments = parser.parse_args()
    if arguments.validate:
        validate(arguments)
        return
    robots = Robots(
        rate_hz=arguments.rate_hz,
        num_actions=arguments.actions,
        num_left=arguments.left,
        image_bytes=round(1e3 * arguments.image_kb),
    )
    costs = measure_costs("bundled://tabletop", arguments.ray)
    _print_head(robots, costs, arguments)
    found = []
    for policy in POLICIES:
        service = service_of(policy, costs)
        of_one = robots_of_one(policy, service, robots, max(arguments.robots), arguments.target)
        for number in arguments.robots:
            row = size(policy, service, robots, number, min(number, of_one), costs, arguments)
            found.append(row)
            print(_written(row), flush=True)
    print("\nTimes of devices:", "; ".join(f"{each.name}: {each.source}" for each in POLICIES) + ".")
    add_figures(arguments.json, "fleet", {"costs": vars(costs), "rows": found})


def _print_head(robots: Robots, costs: Costs, arguments: argparse.Namespace) -> None:
    print(f"{machine()}.\n")
    print(f"A robot asks every {robots.period_s:g} s with {robots.image_bytes / 1e3:.0f} kB and waits for", end=" ")
    print(f"{1e3 * robots.deadline_s:.0f} ms; {arguments.gpu_hour:g} a GPU-hour, {arguments.core_hour:g} a core-hour.")
    print("Processor ms of a request: ", end="")
    print(f"ingress {1e3 * costs.ingress_s:.1f}, model's host {1e3 * costs.host_s:.1f},", end=" ")
    print(f"a store {1e3 * costs.save_s:.1f}; a hop takes {1e3 * costs.hop_s:.1f}.")
    seconds = {
        "ingress": costs.ingress_s,
        "model's host": costs.host_s,
        "store": NUM_COPIES * costs.save_s,
        "link": 8e-9 * _received_bytes(robots) / arguments.link_gbit,
    }
    carried = {name: arguments.target * robots.period_s / each for name, each in seconds.items() if each}
    print("Loaded to", f"{arguments.target:.0%}, one carries so many robots:", end=" ")
    print(", ".join(f"{name} {number:.0f}" for name, number in carried.items()) + ".\n")
    columns = (
        "policy",
        "robots",
        "models (by hashing)",
        "robots each",
        "ingresses",
        "stores",
        "load of device, host, ingress, store, link, head",
        "received Gbit/s",
        "p50, p99 ms",
        "in time",
        "first to saturate",
        "an hour of a robot",
    )
    print(f"| {' | '.join(columns)} |\n|" + "---|" * len(columns))


def _written(row: dict[str, Any]) -> str:
    loads = ", ".join(f"{load:.0%}" for load in row["loads"].values())
    cells = [row["policy"], f"{row['robots']:,}", f"{row['models']:,} ({row['hashed'] or 'more'})", str(row["each"])]
    cells += [f"{row['ingresses']:,}", f"{row['stores']:,}", loads, f"{row['gbit_per_s']:.2f}"]
    cells += [f"{row['p50_ms']:.0f}, {row['p99_ms']:.0f}", f"{row['in_time']:.1%}", row["first"], f"{row['cost']:.4f}"]
    return f"| {' | '.join(cells)} |"


def service_of(policy: Policy, costs: Costs) -> Service:
    """Return what each part of a request takes."""
    return Service(
        device_s=(policy.first_s,),
        each_more_s=policy.each_more_s,
        max_batch=policy.max_batch,
        read_s=(0.8 * costs.ingress_s,),
        write_s=(0.2 * costs.ingress_s,),
        prepare_s=(costs.host_s,),
        save_s=(costs.save_s,),
        hop_s=(costs.hop_s,),
        network_s=NETWORK_S,
    )


def size(
    policy: Policy,
    service: Service,
    robots: Robots,
    number: int,
    of_one: int,
    costs: Costs,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Return how many replicas so many robots need, how loaded each kind is, and what robots meet."""
    models = math.ceil(number / of_one)
    each = math.ceil(number / models)
    found, beats = _simulate_one(service, robots, each, arguments.target), _beats(robots, each)
    rate = number / robots.period_s
    ingresses, stores = (
        max(2, math.ceil(rate * seconds / arguments.target)) for seconds in (costs.ingress_s, NUM_COPIES * costs.save_s)
    )
    cores = ingresses + stores + CORES_OF_MODEL * models
    nodes = math.ceil(max(models * policy.has_gpu, cores / arguments.node_cores))
    gbit_per_s = 8e-9 * rate * _received_bytes(robots)
    loads = {
        "device": rate / models / policy.most_per_second,
        "model's host": rate * costs.host_s / models,
        "ingress": rate * costs.ingress_s / ingresses,
        "store": rate * NUM_COPIES * costs.save_s / stores,
        "link": gbit_per_s / nodes / arguments.link_gbit,
        "head": REPORTS_PER_S * (models + ingresses) * arguments.report_ms / 1e3,
    }
    return {
        "policy": policy.name,
        "robots": number,
        "models": models,
        "hashed": models_by_hashing(number, of_one),
        "each": each,
        "ingresses": ingresses,
        "stores": stores,
        "cores": cores,
        "nodes": nodes,
        "loads": loads,
        "gbit_per_s": gbit_per_s,
        "p50_ms": latency_ms(found.asked, 50),
        "p99_ms": latency_ms(found.asked, 99),
        "in_time": len(in_time(found.asked, beats)) / len(found.asked),
        "first": max(loads, key=lambda name: loads[name]),
        "cost": (policy.has_gpu * models * arguments.gpu_hour + cores * arguments.core_hour) / number,
    }


def _received_bytes(robots: Robots) -> int:
    """Return what nodes receive for a request: its images, and a window for a model replica and for each store."""
    return robots.image_bytes + (1 + NUM_COPIES) * WINDOW_BYTES


def robots_of_one(policy: Policy, service: Service, robots: Robots, number: int, target: float) -> int:
    """Return how many robots one model replica serves, loaded to at most `target`, with `IN_TIME` of the answers so."""
    busiest_s = max(1 / policy.most_per_second, service.prepare_s[0])
    few, many = 0, 1 + min(number, math.floor(target * robots.period_s / busiest_s))
    while many - few > max(1, few // 50):
        tried = (few + many) // 2
        found = _simulate_one(service, robots, tried, target)
        if len(in_time(found.asked, _beats(robots, tried))) >= IN_TIME * len(found.asked):
            few = tried
        else:
            many = tried
    return max(1, few)


def _simulate_one(service: Service, robots: Robots, number: int, target: float) -> Simulated:
    """Simulate one model replica with its robots, and with as many of the other replicas as they need."""
    rate = number / robots.period_s
    read_s = service.read_s[0] + service.write_s[0]
    replicas = Replicas(
        ingresses=max(2, math.ceil(rate * read_s / target)),
        stores=max(2, math.ceil(rate * NUM_COPIES * service.save_s[0] / target)),
    )
    return simulate(_beats(robots, number), service, replicas, seconds=SECONDS)


def _beats(robots: Robots, number: int) -> Sequence[Beat]:
    chance = random.Random(number)
    return [
        Beat(period_s=robots.period_s, deadline_s=robots.deadline_s, phase_s=chance.uniform(0, robots.period_s))
        for _ in range(number)
    ]


def models_by_hashing(number: int, of_one: int) -> int | None:
    """Return how many model replicas it takes until none has more robots than it serves, where hashes place them.

    None if that is more than is worth the time to find out.
    """
    models = math.ceil(number / of_one)
    while models < number and most_robots(number, models) > of_one:
        models = math.ceil(1.02 * models) + (models < 50)
        if models > MAX_HASHED:
            return None
    return models


def most_robots(number: int, models: int, num_points: int = 100) -> int:
    """Return how many robots the model replica has that has the most, each with 100 points on a ring of hashes."""
    rng = np.random.default_rng(0)
    points = rng.random((models, num_points)).ravel()
    order = np.argsort(points)
    owners = order[np.searchsorted(points[order], rng.random(number)) % len(points)] // num_points
    return int(np.bincount(owners, minlength=models).max())


if __name__ == "__main__":
    main()

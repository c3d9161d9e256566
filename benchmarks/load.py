"""How many robots a server carries: closed loops at 5 Hz over WebSockets, and how latency grows with their number.

    cd vla-servers/octo-small && uv run python ../../benchmarks/load.py [--model bundled://tabletop] [--robots 1 2 4 8]

Each robot sends an image every 0.2 s and waits for the action; an action that comes later
than the next image is due has missed its step, and the next image is sent at once. Prints Markdown.
"""

import argparse
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from server import add_figures, machine, running

from vla_client import Policy

PERIOD_S = 0.2
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class Run:
    """What one robot met: each step's latency, and how late after its time its image was sent, in seconds."""

    latencies: list[float]
    delays: list[float]


def main() -> None:
    """Measure every number of robots, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled://tabletop")
    parser.add_argument("--robots", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    print(f"{machine()}; {arguments.model}, {arguments.steps} steps of {PERIOD_S:g} s.\n")
    print("| robots | p50 ms | p99 ms | sent late by (p99) ms | steps missed | actions a second | server MB |")
    print("|---|---|---|---|---|---|---|")
    found = []
    with running(arguments.model) as server:
        for number in arguments.robots:
            started = time.perf_counter()
            runs = drive(server.url.replace("http", "ws"), number, arguments.steps)
            seconds = time.perf_counter() - started
            latencies = 1e3 * np.concatenate([run.latencies for run in runs])
            delays = 1e3 * np.concatenate([run.delays for run in runs])
            row = {
                "robots": number,
                "p50_ms": float(np.percentile(latencies, 50)),
                "p99_ms": float(np.percentile(latencies, 99)),
                "late_p99_ms": float(np.percentile(delays, 99)),
                "missed": float((latencies > 1e3 * PERIOD_S).mean()),
                "per_second": number * (arguments.steps + WARM_UP_STEPS) / seconds,
                "server_mb": server.memory_mb(),
            }
            found.append(row)
            cells = [str(number), *(f"{row[name]:.0f}" for name in ("p50_ms", "p99_ms", "late_p99_ms"))]
            cells += [f"{row['missed']:.1%}", f"{row['per_second']:.1f}", f"{row['server_mb']:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    add_figures(arguments.json, f"load {arguments.model}", found)


def drive(url: str, num_robots: int, num_steps: int) -> list[Run]:
    """Have robots act at once, each a part of the period after the one before."""
    ready = threading.Barrier(num_robots)
    with ThreadPoolExecutor(num_robots) as threads:
        robots = [
            threads.submit(one_robot, url, number, number * PERIOD_S / num_robots, num_steps, ready)
            for number in range(num_robots)
        ]
        return [robot.result() for robot in robots]


def one_robot(url: str, number: int, offset_s: float, num_steps: int, ready: threading.Barrier) -> Run:
    """Act in one episode."""
    random = np.random.default_rng(number)
    run = Run([], [])
    with Policy(url, seed=number) as policy:
        pictures = random.integers(0, 256, (num_steps + WARM_UP_STEPS, 128, 128, 3), np.uint8)
        policy.act({"primary": pictures[0]}, "pick up the red cube")
        ready.wait()
        due = time.perf_counter() + offset_s
        for step, picture in enumerate(pictures):
            time.sleep(max(0.0, due - time.perf_counter()))
            sent = time.perf_counter()
            policy.act({"primary": picture}, "pick up the red cube")
            if step >= WARM_UP_STEPS:
                run.latencies.append(time.perf_counter() - sent)
                run.delays.append(sent - due)
            due = max(due + PERIOD_S, time.perf_counter())
    return run


if __name__ == "__main__":
    main()

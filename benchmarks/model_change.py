"""What a robot notices of a model that is loaded beside its own, and of one that is unloaded.

    cd vla-servers/octo-small && uv run python ../../benchmarks/model_change.py [--beside random://octo-tiny]

A robot asks at 5 Hz before, while each model is loaded and compiled, and after it was unloaded. Prints Markdown: how
long each part took, the robot's latencies, and how many of its answers took longer than its period. The server's cache
is empty at first, so a second `bundled://tabletop` shows what a checkpoint of a known architecture costs, and another
one what compiling all of its programs does.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from server import add_figures, machine, running

from vla_client import Policy

PERIOD_S = 0.2
# The first model's rare programs are compiled while nobody asks; then the robot's first steps.
QUIET_S, FIRST_STEPS_S = 15.0, 3.0
PART_S = 10.0
SIDE = 128


class Robot:
    """Asks at 5 Hz on a thread of its own, in one session; `answers` has how long each answer took [s]."""

    def __init__(self, url: str):
        self.url, self._is_over = url, threading.Event()
        self.answers: list[float] = []
        self._thread = threading.Thread(target=self._drive)

    def __enter__(self) -> "Robot":
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _drive(self) -> None:
        pictures = np.random.default_rng(0).integers(0, 256, (10, SIDE, SIDE, 3), np.uint8)
        with Policy(self.url.replace("http", "ws"), seed=0) as policy:
            due = time.perf_counter()
            while not self._is_over.wait(max(0.0, due - time.perf_counter())):
                began = time.perf_counter()
                policy.act({"primary": pictures[len(self.answers) % 10]}, "pick up the red cube")
                self.answers.append(time.perf_counter() - began)
                due = max(due + PERIOD_S, time.perf_counter())


def main() -> None:
    """Measure each part, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled://tabletop")
    parser.add_argument("--beside", nargs="+", default=["bundled://tabletop", "random://octo-tiny"])
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    settings = {"VLA_MODELS": "on", "VLA_MODEL_SOURCES": "*"}
    found = {}
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}; {arguments.model}, a robot at 5 Hz.\n")
    print("| while | s | answers | p50, p99, longest ms | over 200 ms |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache, running(arguments.model, Path(cache), **settings) as server:
        time.sleep(QUIET_S)
        with Robot(server.url) as robot, httpx.Client(base_url=server.url, timeout=60) as client:
            time.sleep(FIRST_STEPS_S)
            found["nothing else"] = measured(robot, "nothing else", lambda: time.sleep(PART_S))
            for model in arguments.beside:
                for what, do in ((f"{model} is loaded", load), (f"{model} is unloaded", unload)):
                    found[what] = measured(robot, what, lambda do=do, model=model: do(client, model))
    print(f"\nLoad at the end: {os.getloadavg()[0]:.1f}")
    add_figures(arguments.json, f"model change {arguments.model}", found)


def measured(robot: Robot, what: str, do: Callable[[], None]) -> list[float]:
    """Do something, and print and return the latencies [ms] of the robot's answers meanwhile."""
    started, num_before = time.perf_counter(), len(robot.answers)
    do()
    seconds = time.perf_counter() - started
    times = [1e3 * latency for latency in robot.answers[num_before:]]
    p50, p99 = np.percentile(times, [50, 99])
    num_late = sum(each > 1e3 * PERIOD_S for each in times)
    print(
        f"| {what} | {seconds:.0f} | {len(times)} | {p50:.0f}, {p99:.0f}, {max(times):.0f} | {num_late} |", flush=True
    )
    return times


def load(client: httpx.Client, model: str) -> None:
    """Load a model beside the others, and wait until it is warm."""
    order = {"model": model, "id": "beside", "mode": "hold", "allow_different_contract": True}
    client.post("/models", json=order).raise_for_status()
    while (state := client.get("/models/beside").json()["state"]) in ("loading", "warming_up"):
        time.sleep(PERIOD_S)
    assert state == "ready", client.get("/models/beside").json()


def unload(client: httpx.Client, _model: str) -> None:
    """Unload it, and wait until its memory is free."""
    client.delete("/models/beside").raise_for_status()
    time.sleep(PART_S)


if __name__ == "__main__":
    main()

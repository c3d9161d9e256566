"""What each of LeRobot's policy types keeps when it is served, and what a chunk costs.

    make bench-lerobot
    cd vla-servers/lerobot && uv run python ../../benchmarks/lerobot_policies.py --kinds act smolvla --threads 1

Each type is built small by LeRobot itself, with random weights, as the tests build it: the columns say what holds, and
milliseconds compare types of these sizes only. `bit-equal`: a chunk is LeRobot's own after `torch.manual_seed`, with a
full window of history. `batch equals lone`: the largest difference between three requests in one batch and each alone,
in the units of the actions. `RTC`: how far the frozen steps of a chunk that is two steps late are from the last chunk,
and how far they would be without guidance. `replays`: the same seed and step give the same bits, after other requests.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# ruff: noqa: E402
# What PyTorch and the hub read when they are imported.
os.environ.update(HF_HUB_OFFLINE="1", OMP_WAIT_POLICY="PASSIVE")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "vla-servers/lerobot/tests"))

import numpy as np
import torch
from checkpoints_of_types import CHECKPOINTS
from lerobot_itself import LeRobotItself
from policy_requests import an_input, seen_by
from server import add_figures, machine

from lerobot_service.adapter import LeRobotAdapter
from vla_server_base.contract import PolicyInput, PreviousChunk

COLUMNS = ("policy type", "loads", "bit-equal", "ms a chunk", "CPU-ms", "batch equals lone", "RTC", "replays")
CALLS = 15


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=list(CHECKPOINTS), choices=list(CHECKPOINTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{machine()}, {asked.threads} threads\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    rows = []
    for kind in asked.kinds:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(kind, CHECKPOINTS[kind](Path(folder))))
        print("| " + " | ".join(rows[-1].values()) + " |", flush=True)
    add_figures(asked.json, "lerobot", rows)


def measured(kind: str, folder: Path) -> dict[str, str]:
    """Return a type's row of the table."""
    adapter = loaded(folder)
    request = a_request(adapter, 0)
    clock_ms, cpu_ms = zip(*(timed(adapter, request) for _ in range(CALLS)), strict=True)
    values = (
        kind,
        f"yes, {adapter.spec.details['parameters'] / 1e6:.2f} M",
        "yes" if is_bit_equal(adapter, folder) else "NO",
        f"{np.median(clock_ms):.0f}",
        f"{np.median(cpu_ms):.0f}",
        f"to {batch_difference(adapter, loaded(folder, batched=True)):.0e}",
        guidance(adapter) if adapter.spec.supports_rtc else "no",
        "yes" if replays(adapter, request) else "NO",
    )
    return dict(zip(COLUMNS, values, strict=True))


def loaded(folder: Path, **how: Any) -> LeRobotAdapter:
    """Load a checkpoint as a server does."""
    adapter = LeRobotAdapter(**how)
    adapter.load_model(str(folder), "cpu", folder)
    return adapter


def a_request(adapter: LeRobotAdapter, number: int, **fields: Any) -> PolicyInput:
    """Return a request with a full window of noise images."""
    seen = [seen_by(adapter.spec, 10 * number + step) for step in range(adapter.spec.window)]
    return an_input(adapter, seen, f"pick up block {number}", seed=number, **fields)


def timed(adapter: LeRobotAdapter, request: PolicyInput) -> tuple[float, float]:
    """Return the milliseconds of a chunk: on the clock, and of the processor."""
    clock, cpu = time.perf_counter(), time.process_time()
    adapter.predict([request])
    return 1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - cpu)


def is_bit_equal(adapter: LeRobotAdapter, folder: Path) -> bool:
    """Return whether a chunk is LeRobot's own."""
    seen = [seen_by(adapter.spec, step) for step in range(adapter.spec.window)]
    ours = adapter.predict([an_input(adapter, seen, seed=7)])[0][0]
    return np.array_equal(ours, LeRobotItself(folder).chunk(seen, seed=7))


def batch_difference(adapter: LeRobotAdapter, batching: LeRobotAdapter) -> float:
    """Return the largest difference between requests in a batch and alone."""
    requests = [a_request(adapter, number) for number in range(3)]
    pairs = zip(batching.predict(requests), adapter.predict(requests), strict=True)
    return max(float(np.abs(together - alone).max()) for together, alone in pairs)


def guidance(adapter: LeRobotAdapter) -> str:
    """Return how far the frozen steps are from the old chunk's, and how far they would be."""
    old = adapter.predict([a_request(adapter, 0)])[0][0, 2:]
    previous = PreviousChunk(actions=old, inference_delay=2, execution_horizon=5)
    guided, free = (adapter.predict([a_request(adapter, 1, previous=each)])[0][0, :2] for each in (previous, None))
    distances = [float(np.linalg.norm(each - old[:2], axis=-1).max()) for each in (guided, free)]
    return f"{distances[0]:.3f}, not {distances[1]:.2f}"


def replays(adapter: LeRobotAdapter, request: PolicyInput) -> bool:
    """Return whether a request gives the same bits again, after another."""
    first = adapter.predict([request])[0]
    adapter.predict([a_request(adapter, 1)])
    return np.array_equal(adapter.predict([request])[0], first)


if __name__ == "__main__":
    main()

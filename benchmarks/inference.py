"""How fast Octo answers, and what of the machine that takes: foreground, background, stages, against the reference.

    cd vla-servers/octo-small && uv run python ../../benchmarks/inference.py [--reference PYTHON] [--json FILE]

For windows of 1 and 2 and each set of cameras: milliseconds from a preprocessed observation to the chunk (foreground),
with what was prepared while no request waited (background), on the clock and of the processor. The reference's
arithmetic, 2 operations for each multiplication, is what XLA counts in its compiled program; over the time and over the
machine's own speed at multiplying matrices, measured in the same run, it is the effective efficiency. `--reference` is
the Python of an environment with octo-models/octo: it is timed in the same run, by turns. Last, how many observations a
second are answered where those of several robots come together, each with its past prepared. `--profile` writes a trace
of some more requests, operation by operation, for https://ui.perfetto.dev or TensorBoard.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from server import add_figures, machine

from octo_service.adapter import OctoSmallAdapter
from octo_service.config import OctoConfig
from octo_service.model.prediction import draw_noise
from vla_server_base.contract import Observation, PolicyInput, Task
from vla_server_base.sessions.action_chunking import ObservationWindow

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "vla-servers/octo-small/tests/goldens/octo/config_octo_small_1.5_reconstructed.json"
TASK = Task(instruction="pick up the fork")
COLUMNS = (
    "case",
    "request ms",
    "first of an episode ms",
    "prepared while idle ms",
    "both, CPU-ms",
    "GFLOP/s of the machine",
    "efficiency",
    "reference ms",
    "ratio",
    "its CPU-ms",
    "share",
)
# The machine's speed changes within minutes: what is compared is measured by turns, so often.
TURNS = 5
WARM_UP = 1
TOGETHER_CALLS = 3
MATMUL = 1024


@dataclass(frozen=True)
class Case:
    """What is asked for, and the reference's billions of operations for it."""

    name: str
    window: int
    cameras: tuple[str, ...]
    gflop: float


CASES = (
    Case("window 1, primary", 1, ("primary",), 17.9),
    Case("window 2, primary", 2, ("primary",), 35.2),
    Case("window 1, primary and wrist", 1, ("primary", "wrist"), 21.7),
    Case("window 2, primary and wrist", 2, ("primary", "wrist"), 44.2),
)


def main() -> None:
    """Measure every case and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random://octo-small-1.5")
    parser.add_argument("--precision", default="highest", choices=["highest", "default", "bf16"])
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--reference", type=Path, help="a Python that imports octo")
    parser.add_argument("--together", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32], help="robots at once")
    parser.add_argument("--profile", type=Path, help="write a trace of what the device does to this folder")
    parser.add_argument("--json", type=Path, help="add all figures to this file")
    arguments = parser.parse_args()
    adapter = OctoSmallAdapter(OctoConfig(precision=arguments.precision))
    adapter.load_model(arguments.model, "auto", Path(os.environ.get("VLA_CACHE_DIR", Path.home() / ".cache/vla")))
    with the_reference(arguments.reference) as reference:
        rows = [measure(adapter, case, arguments.calls, reference) for case in CASES]
    print(f"{machine()}, device {jax.devices()[0].device_kind}; {arguments.model}, {arguments.precision}.")
    print(f"Medians (least) of {arguments.calls}.\n")
    print_cases(rows)
    stages = measure_stages(adapter, arguments.calls)
    print("\n| stage | ms |\n|---|---|")
    for name, found in stages.items():
        print(f"| {name} | {spread(found)} |")
    together = [
        {"case": case.name, "robots": robots, "ms": measure_together(adapter, case, robots)}
        for case in CASES
        for robots in arguments.together
    ]
    print_together(together, arguments.together)
    if arguments.profile:
        with jax.profiler.trace(str(arguments.profile)):
            measure_together(adapter, CASES[-1], robots=1)
    precision, device = arguments.precision, jax.devices()[0].device_kind
    figures = {"precision": precision, "device": device, "cases": rows, "stages": stages, "together": together}
    add_figures(arguments.json, "inference", figures)


def print_cases(rows: list[dict[str, Any]]) -> None:
    """Print what was measured, as Markdown."""
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        limit, request = float(np.median(row["limit_gflops"])), float(np.median(row["request_ms"]))
        both = float(np.median(np.add(row["request_cpu_ms"], row["idle_cpu_ms"])))
        cells = [row["case"], *(spread(row[name]) for name in ("request_ms", "first_ms", "idle_ms")), f"{both:.0f}"]
        cells += [f"{limit:.0f}", f"{row['gflop'] / (request / 1e3 * limit):.2f}"]
        if row["reference_ms"]:
            theirs, cpu = float(np.median(row["reference_ms"])), float(np.median(row["reference_cpu_ms"]))
            cells += [spread(row["reference_ms"]), f"{theirs / request:.2f}", f"{cpu:.0f}", f"{both / cpu:.2f}"]
        else:
            cells += ["-"] * 4
        print(f"| {' | '.join(cells)} |")


def print_together(rows: list[dict[str, Any]], robots: list[int]) -> None:
    """Print how many observations a second were answered, by how many came at once."""
    print(
        f"\n| observations a second, so many at once | {' | '.join(map(str, robots))} |\n|{'---|' * (1 + len(robots))}"
    )
    for case in CASES:
        rates = [1e3 * row["robots"] / np.median(row["ms"]) for row in rows if row["case"] == case.name]
        print(f"| {case.name} | {' | '.join(f'{rate:.1f}' for rate in rates)} |")


def spread(values: list[float]) -> str:
    """Write a median and the least."""
    return f"{np.median(values):.1f} ({min(values):.1f})"


def measure(adapter: OctoSmallAdapter, case: Case, calls: int, reference: Callable | None) -> dict[str, Any]:
    """Time a case by turns with the reference."""
    row: dict[str, Any] = {"case": case.name, "gflop": case.gflop, "limit_gflops": [], "first_ms": []}
    row |= {f"{what}_{unit}": [] for what in ("request", "idle", "reference") for unit in ("ms", "cpu_ms")}
    calls_each = max(1, calls // TURNS)
    for turn in range(TURNS):
        run_session(adapter, case, calls_each, row, turn)
        row["limit_gflops"].append(matmul_gflops())
        if reference is not None:
            theirs = reference({"window": case.window, "cameras": case.cameras, "calls": calls_each})
            for unit in ("ms", "cpu_ms"):
                row[f"reference_{unit}"] += theirs[unit]
    return row


def run_session(adapter: OctoSmallAdapter, case: Case, calls: int, row: dict[str, Any], turn: int) -> None:
    """Play one session: each request is followed by the preparation for the next, as where nobody else asks."""
    task = adapter.preprocess_instruction(TASK)
    random = np.random.default_rng((case.window, len(case.cameras), turn))  # what was seen before is remembered
    for call in range(WARM_UP + calls):
        is_measured = call >= WARM_UP
        history = ObservationWindow(case.window)
        for step in range(3):
            images = {name: random.integers(0, 256, (224, 224, 3), np.uint8) for name in case.cameras}
            window = history.append(Observation(images=images))
            seen = PolicyInput(observation=adapter.preprocess_observation(window), task=task, seed=0, step=step)
            request = timed(lambda seen=seen: adapter.predict([seen]))
            idle = timed(lambda seen=seen: list(adapter.prefetch(seen)))
            if is_measured and step == 0:
                row["first_ms"].append(request[0])
            if is_measured and step == 2:
                for what, (clock, cpu) in (("request", request), ("idle", idle)):
                    row[f"{what}_ms"].append(clock)
                    row[f"{what}_cpu_ms"].append(cpu)


def measure_together(adapter: OctoSmallAdapter, case: Case, robots: int) -> list[float]:
    """Return the milliseconds that requests of several robots take which come at once, each in a session of its own."""
    task = adapter.preprocess_instruction(TASK)
    random = np.random.default_rng((case.window, len(case.cameras), robots))
    found = []
    for _ in range(WARM_UP + TOGETHER_CALLS):
        histories, took = [ObservationWindow(case.window) for _ in range(robots)], float("nan")
        for step in range(case.window):
            batch = []
            for seed, history in enumerate(histories):
                images = {name: random.integers(0, 256, (224, 224, 3), np.uint8) for name in case.cameras}
                seen = adapter.preprocess_observation(history.append(Observation(images=images)))
                batch.append(PolicyInput(observation=seen, task=task, seed=seed, step=step))
            took = timed(lambda batch=batch: adapter.predict(batch))[0]
            if step < case.window - 1:
                for seen in batch:
                    list(adapter.prefetch(seen))
        found.append(took)
    return found[WARM_UP:]


def measure_stages(adapter: OctoSmallAdapter, calls: int) -> dict[str, list[float]]:
    """Time the stages of a request with a window of 2 and both cameras, one at a time."""
    model, octo = adapter.model, adapter.model.stepwise
    random = np.random.default_rng(0)  # none of the cases' images, which would be resized already

    def window() -> Any:
        images = {name: random.integers(0, 256, (224, 224, 3), np.uint8) for name in ("primary", "wrist")}
        return ObservationWindow(1).append(Observation(images=images))

    windows = [window() for _ in range(calls)]
    pictures = adapter.preprocess_observation(window())
    task = model.create_tasks(texts=[TASK.instruction or ""])
    embedded = {**task, "language_instruction": model.embed_text(**task["language_instruction"])}
    prefix = octo.prefix(embedded)
    tokens = octo.tokenize(prefix, pictures)
    prefill = octo.prefill(prefix, [tokens])
    readout = octo.read_out(prefill, tokens)
    noise = draw_noise(model.head, jax.random.PRNGKey(0), (1, 1))
    stages: dict[str, Callable[[], Any]] = {
        "text encoder": lambda: model.embed_text(**task["language_instruction"]),
        "task prefix": lambda: octo.prefix(embedded).caches,
        "image stems": lambda: octo.tokenize(prefix, pictures).groups,
        "prefill of one timestep": lambda: octo.prefill(prefix, [tokens]).caches(),
        "transformer, one timestep": lambda: octo.read_out(prefill, tokens).tokens,
        "action head": lambda: model.predict_chunk(readout, noise),
    }
    found = {name: [timed(stage)[0] for _ in range(WARM_UP + calls)][WARM_UP:] for name, stage in stages.items()}
    found["resizing both images (beside the device)"] = [
        timed(lambda seen=seen: adapter.preprocess_observation(seen))[0] for seen in windows
    ]
    return found


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the milliseconds until work and what it gave are done: on the clock, and of the processor."""
    clock, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(work())
    return 1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - cpu)


def matmul_gflops() -> float:
    """Return how many billion operations a second the device does in multiplying large matrices of float32."""
    matrix = jnp.ones((MATMUL, MATMUL), jnp.float32)
    with jax.default_matmul_precision("float32"):
        multiply = jax.jit(lambda a: a @ a)
        times = [timed(lambda: multiply(matrix))[0] for _ in range(12)]
    return 2 * MATMUL**3 / min(times) / 1e6


@contextmanager
def the_reference(python: Path | None) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]] | None]:
    """Start the reference in its own environment, and give what asks it to run a case."""
    if python is None:
        yield None
        return
    config = json.dumps(json.loads(CONFIG.read_text())["model"])
    command = [str(python), str(Path(__file__).with_name("reference.py")), config]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        greeting = process.stdout.readline()
        if not greeting:
            sys.exit(f"{python} does not run the reference; what it said is above")
        print(f"reference: JAX {json.loads(greeting)['jax']}", flush=True)

        def ask(case: dict[str, Any]) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps(case), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


if __name__ == "__main__":
    main()
